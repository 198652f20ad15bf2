"""What is left of the pages that jax's runtime prints when it aborts a process."""

from __future__ import annotations

import os
import subprocess
import sys

import tiny

from dropclass_jax.parallel import last_words

JOIN = """
import sys
from dropclass_jax.parallel import processes
print("its own words", file=sys.stderr)
processes.initialize("127.0.0.1:1", 2, 1, wait_seconds=1)
"""


def test_processes_that_do_not_all_come_are_told_in_one_line():
    """By the runtime itself: the first process is not there."""
    done = subprocess.run(
        [sys.executable, "-c", JOIN], capture_output=True, text=True, env=tiny.environment()
    )
    assert done.returncode != 0
    assert done.stdout == ""
    own, told = done.stderr.splitlines()
    assert own == "its own words"
    assert told.startswith("error: not all processes of this run came within 1 s")
    assert "--wait_seconds" in told


def test_a_lost_coordinator_is_told_in_one_line():
    """As jax 0.10 says it, the addresses left out."""
    printed = [
        b"E1126 23:32 coordination_service_agent.cc:289] Polled an error from coordination service"
        b" (this can be an error from this or another task).\n",
        b"F1126 23:32 client.h:80] Terminating process because the JAX distributed service detected"
        b" fatal errors. This most likely indicates that another task died; absl::Status:"
        b" UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was"
        b" preempted/died/restarted unexpectedly or this task is experiencing network issues.\n",
        b':UNKNOWN:Error received from peer  {grpc_status:14, grpc_message:"Socket closed"}\n',
        b"*** Check failure stack trace: ***\n",
        b"    @     0x7fe7a1840634  absl::lts_20260107::log_internal::LogMessage::SendToLog()\n",
    ]
    kept, told = last_words.shorten([b"step 3\n", *printed], "300")
    assert kept == b"step 3\n"
    assert told.startswith(b"error: the first process of this run is gone")
    assert told.count(b"\n") == 1
    # Where the process has found out by itself, and the abort comes while it ends.
    own = b"error: another process of this run is gone\n"
    assert list(last_words.shorten([own, *printed], "300")) == [own]


def test_everything_else_is_printed_as_it_comes():
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, last_words.__file__, "300"], stdin=subprocess.PIPE, stdout=write
    ) as program:
        program.stdin.write(b"\xff half\n")
        program.stdin.flush()
        assert os.read(read, 100) == b"\xff half\n"
        program.stdin.write(b"no end")
        program.stdin.close()
        assert os.read(read, 100) == b"no end"
    os.close(read)
    os.close(write)
