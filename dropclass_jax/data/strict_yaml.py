"""Strict YAML: keys given twice, aliases and bad values are errors that name file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dropclass_jax.data.files import File, on_disk
from dropclass_jax.errors import UserError, first_line

MAX_BYTES = 2**20


class _Loader(yaml.SafeLoader):
    """Refuses keys that are given twice, and aliases: nine lines of them make a billion entries."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported", problem_mark=mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                problem = f"the key {key.value!r} is there twice: remove one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(source: Path | File) -> Any:
    """The content of a YAML file, in UTF-8 with or without a byte-order mark.

    Raises:
      UserError: it cannot be read, is no YAML, holds a key twice, or is no file of a human's size.
    """
    path = name_of(source)
    try:
        file = source if isinstance(source, File) else on_disk(source)
        if file.size > MAX_BYTES:
            raise UserError(f"{path} has {file.size / 2**20:.0f} MiB: want a list of classes")
        return yaml.load(file.read().decode("utf-8-sig"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise UserError(f"{path}{line}: {problem}") from error
    except (ValueError, OverflowError) as error:  # a date or a number that there is not
        raise UserError(f"{path}: {first_line(error)}") from error
    except RecursionError:
        raise UserError(f"{path} is nested too deeply: want a list of classes") from None


def name_of(source: Path | File) -> str:
    """What messages call a file."""
    return source.where if isinstance(source, File) else str(source)
