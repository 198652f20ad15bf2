"""The folder that a command writes into, which is checked before its work."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dropclass_jax.errors import UserError


def make(folder: Path, flag: str = "--out") -> None:
    """Make a folder, where it is missing, and make sure that files can be written into it.

    Raises:
      UserError: it cannot be made, or not be written into.
    """
    with writing(folder, flag):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextlib.contextmanager
def writing(folder: Path, flag: str = "--out") -> Iterator[None]:
    """A block that writes into a folder: where it cannot, that is a ``UserError``."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{flag}={folder} cannot be written: {why}; choose another") from error
