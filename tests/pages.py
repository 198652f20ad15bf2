"""The pages of the documentation as tests read them: code blocks, commands, links; and commands
of the package within this process."""

from __future__ import annotations

import contextlib
import functools
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from absl import flags

from dropclass_jax import data
from dropclass_jax.cli import app
from dropclass_jax.data import __main__ as data_command
from dropclass_jax.data_tools import bench, show, stats

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "RESULTS.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = ("ablate", "analyze", "benchmark", "compare", "convert", "data", "evaluate", "export")
MODULES += ("models", "predict", "report", "train")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: where it stands, what it is written in, and its text."""

    page: str
    line: int
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    """All blocks of one language, page by page."""
    found = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(content):
            line = content.count("\n", 0, match.start()) + 1
            found.append(Block(str(page.relative_to(ROOT)), line, *match.groups()))
    return [block for block in found if block.language == language]


def block(page: str, contains: str, language: str = "python") -> str:
    """The text of the one block of a page that contains a text."""
    (found,) = [b.text for b in blocks(language) if b.page == page and contains in b.text]
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What a page's prose writes in backticks; a line break in it is a space."""
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose(page))]


class Command(NamedTuple):
    """A command line of a page, as a shell splits it, without variables before it."""

    place: str
    words: list[str]


def commands() -> list[Command]:
    """Every command in a ``bash`` block, and those in backticks that start a program."""
    found = []
    for block in blocks("bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            found.append(Command(f"{block.page}:{block.line}", shlex.split(line, comments=True)))
    for page in PAGES:
        found += [
            Command(str(page.relative_to(ROOT)), shlex.split(span))
            for span in spans(page)
            if re.match(r"(bash|python|sbatch) \S", span)
        ]
    without_variables = (
        command._replace(words=[*_after_variables(command.words)]) for command in found
    )
    return [command for command in without_variables if command.words]


def _after_variables(words: list[str]) -> Iterator[str]:
    started = False
    for word in words:
        started = started or not re.match(r"[A-Z_]+=", word)
        if started:
            yield word


class _Stopped(Exception):
    """Whatever a command would have done next."""


@contextlib.contextmanager
def _started(module: str, arguments: list[str], then: Callable[..., None]) -> Iterator[None]:
    """Run a command's file as the main module, up to ``then`` in the place of ``app.run``."""
    before, real = set(flags.FLAGS), (app.run, sys.argv)
    app.run, sys.argv = then, [module, *arguments]  # config_flags reads sys.argv
    try:
        with contextlib.suppress(_Stopped):
            runpy.run_module(f"dropclass_jax.{module}", run_name="__main__")
        yield
    finally:
        app.run, sys.argv = real
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


@functools.cache
def flags_of(module: str) -> frozenset[str]:
    """The names of a command's own flags."""
    before = set(flags.FLAGS)

    def stop(main: object, **settings: object) -> None:
        raise _Stopped

    with _started(module, [], stop):
        return frozenset(set(flags.FLAGS) - before)


def parse(module: str, arguments: list[str]) -> None:
    """Parse a command line as ``python -m dropclass_jax.module`` does, and do nothing.

    Raises:
      SystemExit: the command would have refused it.
      Exception: a value that its flag cannot take.
    """
    if module == "data":
        parsed, rest = data_command.parse(arguments)
        tools = {"stats": stats, "show": show, "bench": bench}

        def load() -> data.Dataset:
            raise _Stopped

        if parsed.command not in tools:
            assert not rest, rest
        elif parsed.command != "bench":  # which measures before it loads anything
            with contextlib.suppress(_Stopped):
                tools[parsed.command].main(load, rest)
        return
    if module == "models":
        assert not arguments, arguments
        return

    def stop(main: object, positional: bool = False) -> None:
        rest = app.parse_flags(sys.argv)
        assert positional or not rest[1:], rest
        raise _Stopped

    with _started(module, arguments, stop):
        pass


def run(module: str, arguments: list[str]) -> int:
    """Run a command in this process; its exit code."""
    if module == "data":
        return data_command.main(arguments)
    codes = []

    def finish(main: Callable[[list[str]], int | None], positional: bool = False) -> None:
        codes.append(main(app.parse_flags(sys.argv)) or 0)

    with _started(module, arguments, finish):
        return codes[0]
