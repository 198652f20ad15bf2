"""Freed memory is used again without asking the system for it."""

from __future__ import annotations

import os
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


# Pages that a jitted function fetches for 8 MiB of temporaries, after some calls to settle.
STEPS = """
import resource, sys
from dropclass_jax.data import allocator

if sys.argv[1] == "keep":
    assert allocator.keep_all_freed_memory()
    assert allocator.keep_freed_memory()  # as the input pipeline does, which takes nothing back

import jax

@jax.jit
def step(x):
    for _ in range(3):
        x = jax.numpy.cumsum(x[::-1])
    return x

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

x = jax.numpy.ones(2**21)
for call in range(30):
    if call == 20:
        start = faults()
    step(x).block_until_ready()
print(faults() - start)
"""

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone"
)


def faults(program: str, mode: str) -> int:
    command = [sys.executable, "-c", program, mode]
    # What glibc starts from, which whatever an import frees may have raised by now.
    thresholds = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    environment = {**os.environ, **thresholds, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout)


@glibc
def test_batches_come_and_go_without_page_faults():
    assert faults(PROGRAM, "default") > 20 * 500  # a batch is a thousand pages
    assert faults(PROGRAM, "keep") < 100


@glibc
def test_steps_come_and_go_without_page_faults():
    assert faults(STEPS, "default") > 10 * 2000  # 8 MiB are 2048 pages
    assert faults(STEPS, "keep") < 3 * 2000  # now and then it finds no room among what it kept


COMMAND = """
import sys
from absl import flags
from dropclass_jax.cli import app

import ctypes
told = []
library = ctypes.CDLL(None)
ctypes.CDLL = lambda _: Library()

class Library:
    def mallopt(self, *option):
        told.append(option)
        return 1

app.run(lambda argv: print(told))
"""


@glibc
def test_a_command_keeps_its_memory_and_an_import_does_not():
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True)
    assert done.stdout.strip() == str([(-8, 1), (-4, 0), (-1, 2**31 - 1)]), done.stderr
