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
from dropclass_jax.allocator import keep_freed_memory

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
from dropclass_jax import allocator

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


def run(program: str, mode: str) -> str:
    command = [sys.executable, "-c", program, mode]
    # What glibc starts from, which whatever an import frees may have raised by now.
    thresholds = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    environment = {**os.environ, **thresholds, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout


@glibc
def test_batches_come_and_go_without_page_faults():
    assert int(run(PROGRAM, "default")) > 20 * 500  # a batch is a thousand pages
    assert int(run(PROGRAM, "keep")) < 100


@glibc
def test_steps_come_and_go_without_page_faults():
    assert int(run(STEPS, "default")) > 10 * 2000  # 8 MiB are 2048 pages
    assert int(run(STEPS, "keep")) < 3 * 2000  # now and then it finds no room among what it kept


# Free pieces of many sizes between others that stay in use, as a compiler leaves them.
FRAGMENTS = """
import ctypes, sys
from dropclass_jax import allocator

if sys.argv[1] == "keep":
    assert allocator.keep_all_freed_memory()

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
pieces = [library.malloc(20_000 + 16 * n) for n in range(4000)]
for piece in pieces[::2]:
    library.free(piece)
retired = allocator.retire_fragments()
again = library.malloc(20_000)
print(retired, again > max(pieces))
"""


@glibc
def test_what_is_retired_is_not_found_again():
    free = sum(20_000 + 16 * n for n in range(0, 4000, 2))
    retired, is_at_the_end = run(FRAGMENTS, "keep").split()
    assert int(retired) > 0.9 * free
    assert is_at_the_end == "True"
    # A library's user, whose heap is not ours to arrange.
    assert run(FRAGMENTS, "default").split() == ["0", "False"]


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
