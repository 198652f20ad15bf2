"""Standard output that survives a closed pipe, a full disk and a narrow encoding."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class Lenient:
    """A text stream whose writes never fail; all else is the stream's own.

    What the stream's encoding lacks is written as ``?``. When nobody reads any more (``| head``),
    the terminal is gone, or the disk is full, the rest goes to ``/dev/null``.

    Args:
      stream: standard output or error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if anybody takes it."""
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, if anybody takes it."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def be_lenient() -> None:
    """Make this process's standard output and error lenient."""
    if sys.stdout:  # None where the process was started without one
        sys.stdout = Lenient(sys.stdout)
    if sys.stderr:
        sys.stderr = Lenient(sys.stderr)
