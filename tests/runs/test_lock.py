"""One process at a time trains in a run's folder."""

from __future__ import annotations

import json
import os
import re
import signal
import socket

import pytest
from lock_holder import another_process

from dropclass_jax.errors import UserError
from dropclass_jax.runs import lock


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_lasts_as_long_as_its_process(tmp_path, number):
    with another_process(tmp_path) as process:
        named = rf"being trained by process {process.pid} on {re.escape(socket.gethostname())} \("
        for _ in range(2):  # to be refused releases nothing
            with pytest.raises(UserError, match=named), lock.held(tmp_path):
                pass
        process.send_signal(number)
        process.wait()
        with lock.held(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    with another_process(tmp_path):
        pass


def test_a_holder_on_another_machine_is_waited_for(tmp_path):
    """Which may have gone down: the file server keeps its locks for a while."""
    told = []
    with another_process(tmp_path):
        (tmp_path / "lock").write_text('{"host": "elsewhere", "pid": 7, "since": "noon"}')
        with (
            pytest.raises(UserError, match=r"trained by process 7 on elsewhere \(since noon\)"),
            lock.held(tmp_path, told.append, patience=0.1),
        ):
            pass
        waiting = "waiting up to 0.1 s for process 7 on elsewhere (since noon), which trains in"
        assert told == [f"{waiting} {tmp_path}"]
    (tmp_path / "lock").write_text("[]")
    with lock.held(tmp_path):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def lockf(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", lockf)
    told = []
    with lock.held(tmp_path, told.append):
        pass
    assert len(told) == 1
    assert "cannot lock" in told[0]
    assert "No locks available" in told[0]
    with (
        pytest.raises(UserError, match="cannot be written: No such file"),
        lock.held(tmp_path / "nowhere"),
    ):
        pass
