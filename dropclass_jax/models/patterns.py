"""Selecting parts of a network by name patterns, such as ``backbone/*/norm1``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from dropclass_jax.errors import UserError, nearest


def matches(path: Sequence[str], patterns: Iterable[str]) -> bool:
    """Whether a part of a network, or a module that contains it, matches one of the patterns.

    Args:
      path: the names of the nested modules, the outermost first, and of the parameter if it is one.
      patterns: shell-style patterns, in which ``*`` matches any characters, including ``/``.

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
    """A tree of booleans: whether each leaf of a tree of nested dicts matches."""

    def of_leaf(path: tuple[Any, ...], _: Any) -> bool:
        return matches([key.key for key in path], patterns)

    return jax.tree.map_with_path(of_leaf, tree)


def check(key: str, patterns: Sequence[str], tree: Any) -> None:
    """Check that every pattern matches something, so that no typing error goes unnoticed.

    Args:
      key: the config key of the patterns, for the error message.
      patterns: see ``matches``.
      tree: nested dicts, the network's parameters or statistics.

    Raises:
      UserError: names the first pattern that matches nothing.
    """
    leaves = [[key.key for key in path] for path, _ in jax.tree.leaves_with_path(tree)]
    known = {"/".join(path[:length]) for path in leaves for length in range(1, len(path))}
    for pattern in patterns:
        if not any(matches(path, [pattern]) for path in leaves):
            raise UserError(
                f"config.{key} names parts of the network, as 'backbone' or '*/norm*'; "
                f"it has no {pattern!r}{nearest(pattern, known)}"
            )
