"""One kind of exception for a user's mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The input is wrong, not the program.

    The message is one line that names the file, key or value at fault and the mend. Every command
    prints it and exits with 2 (see ``command.run``).
    """


def first_line(error: BaseException) -> str:
    """What an exception says, as a part of our own one line; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """``'; did you mean X?'`` for the known name most like a wrong one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def one_of(names: Iterable[str]) -> str:
    """``"one of 'a', 'b'"``: what a value may be, for a message."""
    return "one of " + ", ".join(map(repr, names))
