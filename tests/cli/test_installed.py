"""The package without its repository: the commands that it installs, and configs from anywhere."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib import util
from pathlib import Path

import pytest
from pages import MODULES, ROOT

from dropclass_jax.cli import scripts

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
TINY = ("data.options.train=8", "data.options.val=2", "data.options.val_out=2", "batch_size=2",
        "eval.batch_size=2", "augment.crop=(32,64)", "total_steps=2")  # fmt: skip


def test_every_command_is_installed():
    named = {f"dropclass-{name}": f"dropclass_jax.cli.scripts:{name}" for name in MODULES}
    assert PROJECT["scripts"] == named
    for name in MODULES:
        assert getattr(scripts, name).args == (name,)
        assert util.find_spec(f"dropclass_jax.{name}")


class Installed:
    """A folder that the package is installed into, and another one to work in."""

    def __init__(self, folder: Path) -> None:
        source, self.site, self.elsewhere = (folder / x for x in ("source", "site", "elsewhere"))
        self.elsewhere.mkdir()
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "dropclass_jax", source / "dropclass_jax", ignore=ignore)
        for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        options = ["--quiet", "--no-deps", "--no-build-isolation", f"--target={self.site}"]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)

    def run(self, *words: str | Path) -> subprocess.CompletedProcess:
        """Run a command in the other folder, with the installed package."""
        return subprocess.run(
            words,
            cwd=self.elsewhere,
            env={
                **os.environ,
                "PYTHONPATH": str(self.site),
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": "",
            },
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("installed"))


def test_configs_load_from_another_folder(installed):
    program = """
import sys, dropclass_jax
from dropclass_jax.experiment.config import load_config
print(dropclass_jax.__file__)
for path in sys.argv[1:]:
    print(load_config(path).optim.name)
"""
    done = installed.run(sys.executable, "-c", program, *CONFIGS)
    assert done.returncode == 0, done.stderr
    place, *names = done.stdout.split()
    assert Path(place).is_relative_to(installed.site)
    assert len(names) == len(CONFIGS)


def test_a_script_is_its_command(installed):
    script = installed.site / "bin" / "dropclass-train"
    done = installed.run(script, f"--config={ROOT}/configs/streets.py", "--config.model.nam=x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown config key 'model.nam'")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_training_from_another_folder(installed):
    settings = [f"--config.{setting}" for setting in TINY]
    config = f"--config={ROOT}/configs/streets.py"
    prepared = f"--config.data.prepared_dir={installed.elsewhere}"
    command = (sys.executable, "-m", "dropclass_jax.train", config, prepared, "--workdir=RUN")
    done = installed.run(*command, *settings)
    assert done.returncode == 0, done.stderr
    script = installed.site / "bin" / "dropclass-evaluate"
    done = installed.run(script, "--workdir=RUN", "--split=val")
    assert done.returncode == 0, done.stderr
    assert (installed.elsewhere / "RUN/report.html").exists()
