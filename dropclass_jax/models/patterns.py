"""Parts of a network by name, as ``backbone/layer1_block0/norm1/scale``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from dropclass_jax.errors import UserError, nearest


def matches(path: Sequence[str], patterns: Iterable[str]) -> bool:
    """Whether a part of a network is, or lies in, what one of the patterns names.

    Args:
      path: the names of the modules from the outermost in, and of the parameter if it is one.
      patterns: as the shell's, where ``*`` stands for any characters, ``/`` included.

    >>> matches(("backbone", "stem", "norm", "scale"), ["backbone", "head"])
    True
    >>> matches(("backbone", "stem", "norm", "scale"), ["*/norm"])
    True
    >>> matches(("backbone", "stem", "norm", "scale"), ["norm"])
    False
    """
    names = ["/".join(path[:length]) for length in range(1, len(path) + 1)]
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def mask(tree: Any, patterns: Sequence[str]) -> Any:
    """For each leaf of a tree of nested dicts, whether it matches."""

    def of_leaf(path: tuple[Any, ...], _: Any) -> bool:
        return matches([key.key for key in path], patterns)

    return jax.tree.map_with_path(of_leaf, tree)


def check(key: str, patterns: Sequence[str], tree: Any) -> None:
    """Refuse a pattern that names nothing, which is a typing error that would go unnoticed.

    Args:
      key: the config's key that holds the patterns.
      patterns: see ``matches``.
      tree: nested dicts, the network's parameters or statistics.

    Raises:
      UserError: names the first such pattern.
    """
    leaves = [[key.key for key in path] for path, _ in jax.tree.leaves_with_path(tree)]
    known = {"/".join(path[:length]) for path in leaves for length in range(1, len(path))}
    for pattern in patterns:
        if not any(matches(path, [pattern]) for path in leaves):
            raise UserError(
                f"config.{key} names parts of the network, as 'backbone' or '*/norm*'; "
                f"it has no {pattern!r}{nearest(pattern, known)}"
            )
