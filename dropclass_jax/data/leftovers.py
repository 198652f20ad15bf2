"""Removing what killed preparations have left in the folder of prepared sets.

TFDS writes a set into ``incomplete.*`` and renames it at the end; a kill leaves that folder behind,
as large as the set. Every process that prepares holds a shared lock for as long as it does, which
the system releases when the process ends, however it ends. Whoever gets the lock for itself alone
knows that nobody is preparing.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

LOCK = "preparing.lock"


@contextlib.contextmanager
def preparing(prepared_dir: Path) -> Iterator[None]:
    """Hold the lock while a set is prepared, after removing leftovers if nobody else holds it.

    Where the folder cannot be locked, nothing is removed.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            prepared_dir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(prepared_dir / LOCK, "a+b"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in prepared_dir.glob("*/*/incomplete.*"):
                    shutil.rmtree(path, ignore_errors=True)
            fcntl.flock(file, fcntl.LOCK_SH)
        yield
