"""What is left of the pages that jax's runtime prints when it aborts a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
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
    assert done.returncode == 1
    assert done.stdout == ""
    own, told = done.stderr.splitlines()
    assert own == "its own words"
    assert told.startswith("error: not all processes of this run came within 1 s")
    assert "--wait_seconds" in told


def test_a_lost_coordinator_is_told_in_one_line():
    """As jax 0.10 says it, the addresses left out."""
    printed = [
        b"E1126 23:32:01.1 44 coordination_service_agent.cc:289] Polled an error from coordination"
        b" service (this can be an error from this or another task).\n",
        b"F1126 23:32:01.1 44 client.h:80] Terminating process because the JAX distributed service"
        b" detected fatal errors. This most likely indicates that another task died; absl::Status:"
        b" UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was"
        b" preempted/died/restarted unexpectedly or this task is experiencing network issues.\n",
        b':UNKNOWN:Error received from peer  {grpc_status:14, grpc_message:"Socket closed"}\n',
        b"*** Check failure stack trace: ***\n",
        b"    @     0x7fe7a1840634  absl::lts_20260107::log_internal::LogMessage::SendToLog()\n",
    ]
    kept, told = shortened(b"step 3\n", *printed)
    assert kept == b"step 3\n"
    assert told.startswith(b"error: the first process of this run is gone")
    assert told.count(b"\n") == 1


ABORT = b"F1126 23:32:01.1 44 client.h:80] " + last_words.ABORT + b"; see the other task logs\n"
HELD = [
    b"W1126 23:32:01.1   44 preemption_sync_manager.cc:147] Failed to retrieve the notice: Socket"
    b" closed\n",
    b"Additional GRPC error information from remote target:\n",
    b"E1126 23:32:01.2   44 xla/coordination_service.cc:1549] [183] Use error polling:\n",
    b"1\n",
]
OWN = b"error: another process of this run is gone\n"


def shortened(*lines):
    return list(last_words.shorten(lines, "300"))


def test_whichever_comes_first_there_is_one_line():
    (told,) = shortened(*HELD, ABORT, b"*** Check failure stack trace: ***\n", b"1\n")
    assert told.startswith(b"error: the first process of this run is gone")
    assert shortened(*HELD, OWN) == [OWN]
    assert shortened(OWN, *HELD, ABORT, b"    @ 0x7fe7a1840634\n") == [OWN]
    assert shortened(HELD[0], OWN, ABORT) == [OWN]
    assert shortened(*HELD, ABORT, b"    @ 0x7fe7a1840634\n", OWN) == [OWN]


def test_what_tells_of_something_else_is_kept():
    """The traceback of another error, a message of another file; all of it without an abort."""
    traceback = [b"Traceback (most recent call last):\n", b"ValueError: 1\n"]
    other = b"E1126 23:32:01.2   44 cuda_dnn.cc:11] out of memory\n"
    assert shortened(*HELD, other, *traceback) == [other, *traceback, *HELD]
    assert shortened(*HELD, other, ABORT)[0] == other


DYING = """
import ctypes, os, sys, threading
from dropclass_jax.errors import UserError
from dropclass_jax.parallel import last_words, leaving
import jax
jax.process_count = lambda: 2
last_words.shorten_aborts(300)
leaving.exit_when_aborted()
libc = ctypes.CDLL(None)

def abort():
    print("F1126 23:32:01.1 44 client.h:80] " + last_words.ABORT.decode(), file=sys.stderr)
    libc.abort()

first = sys.argv[1]
if first == "the runtime":
    abort()
thread = threading.Thread(target=abort)
with leaving.leave_together():
    if first == "both":
        thread.start()
        threading.Event().wait(0.01)
    raise ValueError("gloo: connection closed") if first == "both" else UserError("disk full")
"""


@pytest.mark.parametrize(
    ("first", "code", "line"),
    [
        ("the runtime", 1, "error: the first process of this run is gone"),
        ("the process", 2, "error: disk full"),
        ("both", 1, "error: "),
    ],
)
def test_it_ends_with_one_line_and_an_exit_code_of_its_own(first, code, line):
    """And not by SIGABRT, which is the runtime's way."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, first],
        capture_output=True, text=True, env=tiny.environment(), timeout=100,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


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
