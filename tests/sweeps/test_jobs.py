"""Commands side by side: their order, their places, and how they are stopped."""

import os
import signal
import subprocess
import sys

import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.sweeps import jobs


class Log:
    """What ``jobs.run`` tells of."""

    def __init__(self, watch=lambda running: None):
        self.started, self.ended, self.running = [], {}, watch
        self.most = 0

    def run(self, todo, places, folder):
        def watch(running):
            self.most = max(self.most, len(running))
            self.running(running)

        def ended(job, code, seconds):
            self.ended[job.name] = code

        with jobs.only_one(folder) as lock:
            return jobs.run(
                todo, places, lock, lambda job, place: self.started.append(job.name), ended, watch
            )


def shell(name, script, folder, after=None):
    return jobs.Job(name, ["sh", "-c", script], folder / f"{name}.log", after)


def test_a_failure_keeps_only_what_comes_after_it_from_running(tmp_path):
    todo = [
        shell("a", "echo words; exit 3", tmp_path),
        shell("b", "echo $PLACE", tmp_path),
        shell("c", "true", tmp_path, after="a"),
        shell("d", "true", tmp_path, after="c"),
        shell("e", f"cat {tmp_path}/b.log > {tmp_path}/e.copy", tmp_path, after="b"),
    ]

    log = Log()
    places = [jobs.Slot({"PLACE": "one"}, frozenset())] * 2
    assert log.run(todo, places, tmp_path) is None
    assert log.ended == {"a": 3, "b": 0, "c": None, "d": None, "e": 0}
    assert log.most <= 2
    assert (tmp_path / "a.log").read_text() == "words\n"
    assert (tmp_path / "e.copy").read_text() == "one\n"  # b had ended before


def test_a_signal_reaches_the_jobs_once_and_nothing_new_starts(tmp_path):
    """Each saves and leaves in its own time."""
    save = "kill $!; echo got; sleep 0.3; echo saved; exit 143"
    script = f"trap '{save}' TERM; echo ready; sleep 20 & wait"
    todo = [shell(name, script, tmp_path) for name in "abc"]

    def stop_when_ready(running):
        logs = [job.log for job in running]
        if len(logs) == 2 and all(log.exists() and "ready" in log.read_text() for log in logs):
            os.kill(os.getpid(), signal.SIGTERM)

    log = Log(stop_when_ready)
    assert log.run(todo, [jobs.Slot({}, frozenset())] * 2, tmp_path) == signal.SIGTERM
    assert log.ended == {"a": 143, "b": 143}
    assert (tmp_path / "a.log").read_text() == "ready\ngot\nsaved\n"
    assert not (tmp_path / "c.log").exists()


def test_one_folder_has_one_runner(tmp_path):
    """A job that is left behind counts as one."""
    with (
        jobs.only_one(tmp_path / "sweep"),
        pytest.raises(UserError, match="in use by another"),
        jobs.only_one(tmp_path / "sweep"),
    ):
        pass
    with jobs.only_one(tmp_path / "sweep") as lock:
        left = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    with pytest.raises(UserError, match="left behind"), jobs.only_one(tmp_path / "sweep"):
        pass
    left.kill()
    left.wait()
    with jobs.only_one(tmp_path / "sweep"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), jobs.only_one(tmp_path / "file"):
        pass


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone has it")
def test_places_share_no_core_and_jobs_keep_to_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.os, "sched_getaffinity", lambda pid: set(range(3, 11)))
    places = jobs.slots(3, [])
    assert [sorted(place.cores) for place in places] == [[3, 4], [5, 6, 7], [8, 9, 10]]
    assert jobs.slots(None, [])[0] == jobs.Slot({}, frozenset())
    with pytest.raises(UserError, match="--jobs=9 is more than the 8 CPU cores"):
        jobs.slots(9, [])
    monkeypatch.undo()

    before = os.sched_getaffinity(0)
    core = max(before)
    code = "import os; print(os.sched_getaffinity(0))"
    job = jobs.Job("a", [sys.executable, "-c", code], tmp_path / "a.log")
    Log().run([job], [jobs.Slot({}, frozenset({core}))], tmp_path)
    assert job.log.read_text() == f"{{{core}}}\n"
    assert os.sched_getaffinity(0) == before


def test_places_on_gpus(monkeypatch):
    monkeypatch.setattr(jobs.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    visible = [place.environment["CUDA_VISIBLE_DEVICES"] for place in jobs.slots(None, ["2", "5"])]
    assert visible == ["2", "5"]
    shared = [dict(place.environment) for place in jobs.slots(3, ["2", "5"])]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in shared] == ["2", "5", "2"]
    assert shared[0]["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in shared[1]
    assert [len(place.cores) for place in jobs.slots(2, ["0"])] == [8, 8]


def test_which_gpus_there_are(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    query = "--query-gpu=index --format=csv,noheader"
    tool.write_text(f'#!/bin/sh\n[ "$*" = "{query}" ] && echo 0 && echo 1\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert jobs.gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert jobs.gpus() == ["3"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert jobs.gpus() == []
