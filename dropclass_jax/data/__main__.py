"""Look after data sets: prepare, check, count, show, time.

    python -m dropclass_jax.data prepare --name=folder --dir=MYDATA
    python -m dropclass_jax.data check   --name=folder --dir=MYDATA [--skip-bad]
    python -m dropclass_jax.data stats|show|bench --name=camvid --dir=CAMVID [--help]

`prepare` writes the set as training would; `check` prepares nothing (it may make a folder's
`classes.yaml`), lists every bad file with its fault, and exits with 1 if there is one. The set is
named as in a config: `--name` is `data.name`, `--dir` is `data.dir`, `--prepared-dir` is
`data.prepared_dir`, and each `--option KEY=VALUE` is one of `data.options`.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dropclass_jax import data
from dropclass_jax.cli import home
from dropclass_jax.data_tools.arguments import Parser
from dropclass_jax.errors import UserError

Loader = Callable[[], data.Dataset]


def prepare(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the set, unless it has been."""
    _refuse(rest)
    dataset = data.load(**arguments.dataset)
    counts = ", ".join(f"{split} {len(source)}" for split, source in dataset.splits.items())
    contents = f"{dataset.info.num_classes} classes, {counts} images"
    print(f"{dataset.info.name} is ready: {contents}, fingerprint {dataset.fingerprint}")
    return 0


def check(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """List every bad file."""
    from dropclass_jax.data_tools import check

    _refuse(rest)
    return check.check(data.create_builder(**arguments.dataset))


def _elsewhere(module: str, arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """A command of its own module, whose ``main`` takes what it needs of the rest."""
    load = functools.partial(data.load, **arguments.dataset)
    return importlib.import_module(f"dropclass_jax.data_tools.{module}").main(load, list(rest))


COMMANDS: dict[str, Callable[[argparse.Namespace, Sequence[str]], int]] = {
    "prepare": prepare,
    "check": check,
    **{name: functools.partial(_elsewhere, name) for name in ("stats", "show", "bench")},
}


def _refuse(rest: Sequence[str]) -> None:
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; --help lists the options")


def _option(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``: a truth value, a number, or a text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"want KEY=VALUE, not {text!r}")
    if value.lower() in ("true", "false"):
        return key, value.lower() == "true"
    for number in (int, float):
        try:
            return key, number(value)
        except ValueError:
            continue
    return key, value


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command, the keyword arguments of ``data.load`` as ``dataset``, and what is left."""
    # A command of another module explains itself: only without one, or with ours, --help is ours.
    explains_itself = bool(argv) and argv[0] in ("stats", "show", "bench")
    parser = Parser(
        prog="python -m dropclass_jax.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=not explains_itself,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--name", default="folder", help="of the data set (default: folder)")
    parser.add_argument("--dir", help="its source folder")
    parser.add_argument("--prepared-dir", help="where prepared sets are kept")
    parser.add_argument(
        "--option", action="append", default=[], type=_option, metavar="KEY=VALUE",
        help="an option of the data set; may be given several times",
    )  # fmt: skip
    parser.add_argument("--skip-bad", action="store_true", help="same as --option skip_bad=True")
    arguments, rest = parser.parse_known_args(argv)
    options = dict(arguments.option)
    if arguments.skip_bad:
        options["skip_bad"] = True
    arguments.dataset = {
        "name": arguments.name,
        "source_dir": arguments.dir,
        "prepared_dir": arguments.prepared_dir,
        **options,
    }
    return arguments, rest


def main(argv: Sequence[str]) -> int:
    """Run a command; a user's mistake is one line on stderr and exit code 2."""
    try:
        arguments, rest = parse(home.expanded(argv))
        return COMMANDS[arguments.command](arguments, rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
