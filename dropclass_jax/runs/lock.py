"""A lock on a run's folder: one process at a time trains in it.

It is a POSIX lock (``fcntl.lockf``) on a file that the process keeps open. The system releases it
when the process ends, however it ends, so none is ever left behind; the file stays, and says who
held it last. Such locks also hold between the machines of a shared file system, where its server
keeps them (NFS 4, Lustre mounted with ``flock``, GPFS).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from dropclass_jax.errors import UserError

NAME = "lock"

# A file server keeps the locks of a machine that went down for a while: NFS for a lease of 90 s.
LEASE_SECONDS = 120


@contextlib.contextmanager
def held(
    workdir: Path, say: Callable[[str], None] = print, patience: float = LEASE_SECONDS
) -> Iterator[None]:
    """Hold the lock of a run's folder.

    Args:
      workdir: the run's folder; it must exist.
      say: told of waiting, and of a file system without locks.
      patience: how many seconds to wait for a holder on another machine, which may be down.

    Raises:
      UserError: another process holds the lock, or the folder cannot be written.
    """
    path = workdir / NAME
    try:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"workdir {workdir} cannot be written: {error.strerror}") from error
    with file:
        try:
            if not _acquire(file):
                _wait(file, workdir, say, patience)
            _sign(file)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise UserError(f"workdir {workdir} cannot be written: {error.strerror}") from error
            say(f"cannot lock {path} ({error.strerror}): let no other process train in {workdir}")
        yield


def _acquire(file: IO[str]) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _wait(file: IO[str], workdir: Path, say: Callable[[str], None], patience: float) -> None:
    """Wait for a holder on another machine; one on this machine is alive, so waiting is vain."""
    end = time.monotonic() + patience
    told = False
    while (holder := _holder(file))["host"] != socket.gethostname() and time.monotonic() < end:
        if not told:
            say(f"waiting up to {patience:g} s for {_named(holder)}, which trains in {workdir}")
            told = True
        time.sleep(min(1, patience))
        if _acquire(file):
            return
    raise UserError(
        f"{workdir} is being trained by {_named(holder)}: wait until it ends or stop it, or choose "
        "another --workdir"
    )


def _sign(file: IO[str]) -> None:
    """Write down who holds the lock, for the message of those who do not get it."""
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
    file.flush()


def _holder(file: IO[str]) -> dict[str, str]:
    unknown = {"host": "an unknown host", "pid": "?", "since": "?"}
    try:
        file.seek(0)
        return {**unknown, **json.load(file)}
    except (ValueError, TypeError):  # it is about to sign
        return unknown


def _named(holder: dict[str, str]) -> str:
    return "process {pid} on {host} (since {since})".format_map(holder)
