"""What a command prints must not end it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRINT = """
import sys
from dropclass_jax.cli import streams
streams.be_lenient()
for n in range(3):
    print("lambda \\u03bb", n, flush=True)
    sys.stdin.readline()
print("went on", file=sys.stderr)
"""


def start(stdout, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PRINT], text=True, env={**os.environ, **environment},
        stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_closed_pipe_does_not_end_it():
    process = start(subprocess.PIPE)
    assert process.stdout.readline() == "lambda λ 0\n"
    process.stdout.close()  # as `| head -1` does
    _, errors = process.communicate("\n\n\n")
    assert (process.returncode, errors) == (0, "went on\n")


def test_a_full_disk_does_not_end_it():
    with open("/dev/full", "w") as full:
        process = start(full)
        _, errors = process.communicate("\n\n\n")
    assert (process.returncode, errors) == (0, "went on\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_a_question_mark(encoding):
    process = start(subprocess.PIPE, PYTHONIOENCODING=encoding)
    shown, errors = process.communicate("\n\n\n")
    assert (process.returncode, errors) == (0, "went on\n")
    assert shown.splitlines()[0] == "lambda ? 0"
