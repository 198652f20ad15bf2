"""One line in place of the pages that jax's runtime prints when it loses the other processes.

jax's coordination service does not raise when the first process is gone, or when not all processes
come: it aborts, from a thread of its own, with a C++ stack trace that no Python code can catch. So
what the process prints to its standard error goes through this program, which outlives it:

    python last_words.py SECONDS < what the process prints

It needs nothing but the standard library, and knows the runtime's lines by these words.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator

ABORT = b"Terminating process because the JAX distributed service detected fatal errors"
WARNING = b"Polled an error from coordination service"  # which precedes it
NOT_ALL_CAME = (b"RegisterTask", b"DEADLINE_EXCEEDED")


def shorten(lines: Iterable[bytes], seconds: str) -> Iterator[bytes]:
    """The lines, with one line for an abort of the runtime, the last thing a process prints.

    Args:
      lines: what the process prints, each with its end.
      seconds: how long it waits for the others at the start.
    """
    lines = iter(lines)
    told = False  # by the process itself, which the abort has overtaken on its way out
    for line in lines:
        told = told or line.startswith(b"error: ")
        if ABORT in line and told:
            return
        if ABORT in line:
            rest = line + b"".join(lines)
            if any(sign in rest for sign in NOT_ALL_CAME):
                yield (
                    f"error: not all processes of this run came within {seconds} s: check that all "
                    "were started, with the same --coordinator and --num_processes, and that it "
                    "can be reached from all; --wait_seconds is how long to wait\n"
                ).encode()
            else:
                yield (
                    b"error: the first process of this run is gone, or cannot be reached any more: "
                    b"this one stops too. Start all of them again to continue\n"
                )
        elif WARNING not in line:
            yield line


def shorten_aborts(seconds: int) -> None:
    """Let all that this process prints to its standard error go through this program."""
    sys.stderr.flush()
    read, write = os.pipe()
    subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(seconds)],
        stdin=read,
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # a signal to the process's group is not for it
    )
    os.dup2(write, sys.stderr.fileno())
    os.close(read)
    os.close(write)


if __name__ == "__main__":
    printed = iter(sys.stdin.buffer.readline, b"")
    for line in shorten(printed, *sys.argv[1:]):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
