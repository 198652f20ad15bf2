"""``~`` in arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_HOME = re.compile(r"((?:[^=]*=)?)(~(?:/.*)?)", re.DOTALL)


def expanded(argv: Sequence[str]) -> list[str]:
    """Arguments with ``~`` as the home folder also where the shell does not see it.

    A shell expands ``~/run`` alone, and neither ``--workdir=~/run`` nor ``LABEL=~/run``.
    """
    matches = [_HOME.fullmatch(argument) for argument in argv]
    return [
        match.group(1) + os.path.expanduser(match.group(2)) if match else argument
        for match, argument in zip(matches, argv, strict=True)
    ]
