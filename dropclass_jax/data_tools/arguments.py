"""Command line of ``python -m dropclass_jax.data``; a mistake is a one-line error."""

from __future__ import annotations

import argparse
from typing import NoReturn

from dropclass_jax import data
from dropclass_jax.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that raises ``UserError`` instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the options")


def subparser(command: str, doc: str | None) -> Parser:
    """The parser of one command, which explains it with its module's docstring."""
    return Parser(
        prog=f"python -m dropclass_jax.data {command}",
        description=f"{doc}\n--name, --dir, --prepared-dir and --option say which data set.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def check_split(dataset: data.Dataset, split: str) -> None:
    """Raise ``UserError`` unless a data set has the split."""
    if split not in dataset.splits:
        raise UserError(f"{dataset.info.name} has no split {split!r}: {', '.join(dataset.splits)}")
