"""Run a command: parse its flags, report a user's mistake in one line, set the exit code."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from dropclass_jax import allocator
from dropclass_jax.cli import compilation, home, streams
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import flatten, is_section, load_config, unknown_key


def run(main: Callable[[list[str]], int | None], *, positional: bool = False) -> NoReturn:
    """Run an absl ``main``; a ``UserError`` is printed as one line on stderr, with exit code 2.

    ``main`` may return an exit code. An exception other than ``UserError`` is a bug and keeps its
    traceback.

    Args:
      main: called with the program's name and the positional arguments.
      positional: whether positional arguments are allowed.
    """

    def guarded(argv: list[str]) -> int:
        # Log messages of the libraries would bury the progress line.
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        try:
            allocator.keep_all_freed_memory()  # before jax's first operation
            compilation.keep()
            if len(argv) > 1 and not positional:
                raise UserError(f"unexpected argument {argv[1]!r}; options start with --")
            return main(argv) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("stopped by SIGINT", file=sys.stderr)
            return 128 + signal.SIGINT

    streams.be_lenient()
    app.run(guarded, flags_parser=parse_flags)
    raise AssertionError("app.run always exits")


def parse_flags(argv: list[str]) -> list[str]:
    """Parse flags with absl; whatever it cannot parse is one line and exit code 2."""
    argv = home.expanded(argv)
    try:
        check_config_flags(argv)
        return flags.FLAGS(argv)
    except (flags.Error, UserError) as error:
        print(f"error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        sys.exit(2)


def check_config_flags(argv: list[str]) -> None:
    """Refuse a config file that does not load and a ``--config.key`` that it does not have.

    ml_collections reports both with a traceback, and names only the last part of a key.
    """
    names = [arg.lstrip("-").split("=", 1) for arg in argv[1:] if arg.startswith("-")]
    specs = [name[1] for name in names if name[0] == "config" and len(name) == 2]
    specs += [spec for flag, spec in itertools.pairwise(argv) if flag in ("-config", "--config")]
    if not specs:
        return
    known = dict(flatten(load_config(specs[-1])))
    for name, *_ in names:
        if name.startswith("config."):
            key = name.removeprefix("config.").split("[")[0]
            if key not in known:
                raise UserError(unknown_key(key, known))
            if is_section(known[key]):
                raise UserError(f"config key {key!r} is a section; set one of the keys in it")
