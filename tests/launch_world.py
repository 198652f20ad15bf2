"""Where the tests of launch/ take place: a copy of the project, and stand-ins on PATH.

``gcloud`` there has workers that are folders, and runs what ssh brings them, so that quoting,
detaching, logs and exit codes are those of the scripts themselves.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAKES = Path(__file__).parent / "launch_fakes.py"
ARGUMENTS = [
    "--config=configs/streets.py",
    "--workdir=/mnt/a run",
    "--config.data.dir=$HOME/it's *",
]


class World:
    """A copy of the project with a stand-in for its Python, and a PATH of stand-ins."""

    def __init__(self, folder):
        self.project, self.state = folder / "project", folder / "state"
        for name in ("launch", "configs", "dropclass_jax"):
            shutil.copytree(ROOT / name, self.project / name)
        for name in ("README.md", "LICENSE", "pyproject.toml", "requirements.txt"):
            shutil.copy(ROOT / name, self.project)
        bin_folder = self.state / "bin"
        bin_folder.mkdir(parents=True)
        for name in ("gcloud", "nvidia-smi", "srun", "squeue", "scontrol", "tar", "python"):
            fake = bin_folder / name
            fake.write_text(f'#!/bin/sh\nexec {sys.executable} -SE {FAKES} {name} "$@"\n')
            fake.chmod(0o755)
        # What install.sh and the scripts call is the stand-in.
        (self.project / ".venv/bin").mkdir(parents=True)
        shutil.move(bin_folder / "python", self.project / ".venv/bin/python")
        self.env = {
            **{k: v for k, v in os.environ.items() if not re.match("SLURM|CUDA|JAX", k)},
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "FAKE_STATE": str(self.state),
            "FAKE_PYTHON": sys.executable,
            "REAL_PATH": os.environ["PATH"],
            "SUPERVISE_DELAY": "0",
            "PYTHONPATH": str(self.project),
            "ACCELERATOR": "cpu",
        }

    def set(self, **files):
        """What the stand-ins will do, one line a time."""
        for name, lines in files.items():
            (self.state / name).write_text("".join(f"{line}\n" for line in lines))

    def records(self, name):
        """What the stand-ins were asked."""
        path = self.state / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self, program):
        return [call[1:] for call in self.records("calls") if call[0] == program]

    def start(self, script, *arguments, **env):
        return subprocess.Popen(
            ["bash", self.project / "launch" / script, *arguments],
            env={**self.env, **env},
            cwd=self.project,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=as_from_a_terminal,
        )

    def run(self, script, *arguments, **env):
        process = self.start(script, *arguments, **env)
        process.stdout, process.stderr = process.communicate(timeout=120)
        return process

    def wait_for_start(self, count=1):
        deadline = time.monotonic() + 30
        while len(self.records("starts")) < count:
            assert time.monotonic() < deadline, "the trainer was not started"
            time.sleep(0.05)

    def close(self):
        """No trainer outlives its test."""
        for start in self.records("starts"):
            with suppress(ProcessLookupError):
                os.kill(start["pid"], signal.SIGKILL)


def as_from_a_terminal():
    """Heed the signals that a shell's background, or nohup, has its programs ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def is_one_line(process, *words):
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    return process.returncode == 2
