"""Compare two runs, or two methods with several runs each, class by class.

    python -m dropclass_jax.compare RUN_A RUN_B [--split=val] [--head_a=drop] [--head_b=plain]

Reports what B gains over A, and which differences are more than noise. Several runs (seeds) of a
method are given by a folder that holds them (SWEEPDIR/ARM), by a glob in quotes, or with commas:
``--a=RUN,RUN --b=RUN,RUN``.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from dropclass_jax.cli import app, out_folder
from dropclass_jax.comparison import bootstrap
from dropclass_jax.comparison.sides import check, compare, read
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation.inference import OUTPUTS
from dropclass_jax.reporting import compare_page, compare_summary


def expand(words: Sequence[str]) -> list[Path]:
    """Folders of runs from names, globs, and folders of several seeds.

    A name that is there stands for itself, whatever a glob would make of it.

    Raises:
      UserError: there is no such folder.
    """
    workdirs: list[Path] = []
    for word in words:
        found = [] if Path(word).exists() else sorted(glob.glob(word))  # a name may hold [ or *
        for path in map(Path, found or [word]):
            seeds = sorted(file.parent for file in path.glob("seed*/metrics.json"))
            workdirs += [path] if (path / "metrics.json").exists() or not seeds else seeds
    if len({path.resolve() for path in workdirs}) < len(workdirs):
        raise UserError(f"{','.join(words)} names a run twice")
    return workdirs


def apart(
    a: Sequence[Path], b: Sequence[Path], heads: Sequence[str | None]
) -> tuple[Sequence[Path], Sequence[Path]]:
    """Both sides' runs, once they are known to be others, or the same ones by two of their heads.

    Raises:
      UserError: they are the same by the same head, or share some of their runs.
    """
    places = [[path.resolve() for path in side] for side in (a, b)]
    if places[0] == places[1]:  # however they are written
        if heads[0] == heads[1]:
            raise UserError(
                "both sides are the same; give --head_a=drop --head_b=plain for its heads"
            )
        return a, a
    if shared := [path for path, place in zip(b, places[1], strict=True) if place in places[0]]:
        raise UserError(
            f"{shared[0]} is on both sides: name it on one of them, or to compare two heads "
            "(--head_a, --head_b) give both sides the same runs in the same order"
        )
    return a, b


def names_of(a: Sequence[Path], b: Sequence[Path], heads: Sequence[str | None]) -> tuple[str, str]:
    """Short names for two sides: the part of their paths in which they differ.

    >>> runs = [Path("/runs/plain/seed0"), Path("/runs/plain/seed1")]
    >>> names_of(runs, [Path("/runs/dropclass/seed0")], (None, None))
    ('plain', 'dropclass/seed0')
    """
    if list(a) == list(b):
        return tuple(f"{head or 'own'} head" for head in heads)
    shared = [_beginning([str(path.absolute()) for path in side]) for side in (a, b)]
    for n, side in enumerate((a, b)):
        if len(side) > 1:  # without the beginning of the names of its runs
            shared[n] = re.sub(r"[-_/.]*(seed|run)?[-_]*$", "", shared[n])
    start = Path(os.path.commonpath(shared))
    names = [str(Path(path).relative_to(start)) for path in shared]
    return tuple(names) if "." not in names else ("A", "B")


def _beginning(paths: Sequence[str]) -> str:
    """What several paths begin with, up to the number or the word in which they differ."""
    start = os.path.commonprefix(paths)  # noqa: RUF071 (by characters)
    for kind in (r"\d", r"[^\W\d_]"):
        if any(re.match(kind, path[len(start) :]) for path in paths):
            start = re.sub(f"{kind}+$", "", start)
    return start


def main(argv: list[str]) -> None:
    """The command."""
    given = flags.FLAGS
    words = [given.a, given.b]
    if len(argv) == 3 and not any(words):
        words = [[argv[1]], [argv[2]]]
    elif len(argv) > 1 or not all(words):
        raise UserError("give two runs, RUN_A RUN_B, or several a side: --a=RUN,RUN --b=RUN,RUN")
    sides = [expand(side) for side in words]
    heads = (given.head_a, given.head_b)
    sides = apart(*sides, heads)
    names = names_of(*sides, heads)
    a = read(sides[0], given.split, heads[0], names[0])
    b = read(sides[1], a.split, heads[1], names[1])
    check(a, b)
    slug = "-".join(name.replace("/", "_").replace(" ", "_") for name in names)
    out = Path(given.out or f"compare-{slug}")
    out_folder.make(out)
    outcome = compare(a, b, given.resamples)
    print(compare_summary.text(outcome))
    with out_folder.writing(out):
        print(compare_page.write(out, outcome))


if __name__ == "__main__":
    flags.DEFINE_list("a", [], "The runs of one side: folders, globs.")
    flags.DEFINE_list("b", [], "The runs of the other.")
    flags.DEFINE_string("split", None, "Of the data set; val by default.")
    for side in "ab":
        flags.DEFINE_enum(
            f"head_{side}",
            None,
            list(OUTPUTS),
            f"The head of {side.upper()}; its own by default.",
        )
    flags.DEFINE_string("out", None, "The folder to write to; compare-A-B by default.")
    flags.DEFINE_integer("resamples", bootstrap.RESAMPLES, "Draws of the images.", 100)
    app.run(main, positional=True)
