"""Freed memory is used again without asking the system for it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Pages that a thread fetches for batches that come and go, after a few to settle.
PROGRAM = """
import resource, sys, threading
import numpy as np
from dropclass_jax.data.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def batches(count):
    for _ in range(count):
        batch = [np.ones((360, 480, 3), np.uint8) for _ in range(8)]
        del batch

def work():
    batches(5)
    start = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    batches(20)
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - start)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_batches_come_and_go_without_page_faults():
    def faults(mode: str) -> int:
        command = [sys.executable, "-c", PROGRAM, mode]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("default") > 20 * 500  # a batch is a thousand pages
    assert faults("keep") < 100
