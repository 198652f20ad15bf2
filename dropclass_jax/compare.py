"""Compare two runs, or two methods by several runs each, class by class.

    python -m dropclass_jax.compare RUN_A RUN_B [--split=val] [--head_a=drop] [--head_b=plain]

Says what B gains over A, and which of it is more than noise. Several runs of one method, its seeds,
are given by a folder that holds them (SWEEPDIR/ARM), by a glob in quotes, or with commas:
``--a=RUN,RUN --b=RUN,RUN``.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from dropclass_jax import report
from dropclass_jax.cli import app
from dropclass_jax.comparison import bootstrap
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import summary
from dropclass_jax.reporting import compare_page, compare_summary

HEADS = ("drop", "plain")  # the one that predicts first


class Side(NamedTuple):
    """Runs of one method, as one of their heads reads the images of a split.

    Attributes:
      name: what it is called.
      workdirs: the runs' folders.
      head: ``drop`` or ``plain``.
      split: of the data set.
      ids: ``[N]``, the images.
      counts: ``[S, N, K, 3]`` hits, labelled and predicted pixels of each run.
      metrics: the content of the runs' ``metrics.json``.
    """

    name: str
    workdirs: list[Path]
    head: str
    split: str
    ids: np.ndarray
    counts: np.ndarray
    metrics: list[dict[str, Any]]


def read(workdirs: Sequence[Path], split: str | None, head: str | None, name: str) -> Side:
    """Read one side.

    Args:
      workdirs: the folders of one or more runs.
      split: by default ``val``, or the first that the first run was evaluated on.
      head: by default the one that predicts.
      name: what the side is called.

    Raises:
      UserError: a run lacks what is needed, or the runs do not fit together.
    """
    metrics = [report.read_metrics(workdir) for workdir in workdirs]
    split = split or report.headline(metrics[0])[0]["split"]
    arrays = [read_counts(workdir, split) for workdir in workdirs]
    head = head or next(name for name in HEADS if name in arrays[0][1])
    for workdir, (_, counts) in zip(workdirs, arrays, strict=True):
        if head not in counts:
            raise UserError(
                f"{workdir} has no counts of the {head} head on {split}, only of "
                f"{' and '.join(counts)}"
            )
    heads = {tuple(sorted(counts)) for _, counts in arrays}
    if len(heads) > 1:
        raise UserError(f"{workdirs[0]} and other runs of its side are of DropClass and plain ones")
    sides = [
        Side(name, [workdir], head, split, ids, counts[head][None], [content])
        for workdir, (ids, counts), content in zip(workdirs, arrays, metrics, strict=True)
    ]
    for side in sides[1:]:
        check(sides[0], side)
    return sides[0]._replace(
        workdirs=list(workdirs),
        counts=np.concatenate([side.counts for side in sides]),
        metrics=metrics,
    )


def read_counts(workdir: Path, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The ids of a split's images, ``[N]``, and ``{head: [N, K, 3]}`` counts.

    Raises:
      UserError: the run was not evaluated on the split, or by an older version.
    """
    try:
        with np.load(workdir / "images.npz") as arrays:
            ids = arrays[f"{split}/ids"]
            counts = {
                head: arrays[f"{split}/{head}/counts"]
                for head in HEADS
                if f"{split}/{head}/counts" in arrays
            }
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):  # missing or damaged
        counts = {}
    if not counts:
        raise UserError(
            f"{workdir} has no counts of the images of {split} (images.npz); make them: "
            f"python -m dropclass_jax.evaluate --workdir={workdir} --split={split}"
        )
    return ids, counts


def common_counts(workdirs: Sequence[Path]) -> list[dict[str, dict[str, np.ndarray]]]:
    """For each run ``{split: {head: [N, K, 3]}}``, of the splits whose images all runs have."""
    read = []
    for workdir in workdirs:
        splits = {entry["split"] for entry in report.read_metrics(workdir)["results"]}
        read.append({})
        for split in splits:
            with contextlib.suppress(UserError):
                read[-1][split] = read_counts(workdir, split)

    def known(split: str) -> bool:
        if not all(split in run for run in read):
            return False
        labels = [next(iter(run[split][1].values()))[..., 1] for run in read]
        return all(
            np.array_equal(run[split][0], read[0][split][0]) and np.array_equal(label, labels[0])
            for run, label in zip(read, labels, strict=True)
        )

    common = {split for split in read[0] if known(split)}
    return [{split: run[split][1] for split in common} for run in read]


def check(a: Side, b: Side) -> None:
    """Refuse two sides that were not scored on the same images and classes.

    Raises:
      UserError: says what differs.
    """
    pair = f"{a.workdirs[0]} and {b.workdirs[0]}"
    names = [[about["name"] for about in side.metrics[0]["classes"]] for side in (a, b)]
    if names[0] != names[1]:
        raise UserError(f"{pair} have different classes, which cannot be compared")
    if not np.array_equal(a.ids, b.ids):
        raise UserError(
            f"{pair} were scored on different images of {a.split}; evaluate both on the same data"
        )
    if not np.array_equal(a.counts[0, ..., 1], b.counts[0, ..., 1]):
        raise UserError(
            f"{pair} were scored by different labels of {a.split}; evaluate both on the same data"
        )


def compare(a: Side, b: Side, resamples: int = bootstrap.RESAMPLES) -> compare_summary.Outcome:
    """Everything that is said about two sides; see ``resampling.compare``.

    Raises:
      UserError: they do not fit together.
    """
    check(a, b)
    classes = a.metrics[0]["classes"]
    masks = summary.group_masks(classes)
    same_runs = a.workdirs == b.workdirs
    found = bootstrap.compare(a.counts, b.counts, masks, same_runs=same_runs, resamples=resamples)
    return compare_summary.Outcome(
        (a.name, b.name),
        ([str(path) for path in a.workdirs], [str(path) for path in b.workdirs]),
        (a.head, b.head),
        tuple(sorted({content["step"] for content in side.metrics}) for side in (a, b)),
        a.split,
        len(a.ids),
        resamples,
        classes,
        {group: int(mask.sum()) for group, mask in masks.items()},
        found,
    )


def expand(words: Sequence[str]) -> list[Path]:
    """Folders of runs from names, globs, and folders of several seeds.

    Raises:
      UserError: there is no such folder.
    """
    workdirs: list[Path] = []
    for word in words:
        found = [Path(path) for path in sorted(glob.glob(word))] or [Path(word)]
        for path in found:
            seeds = sorted(file.parent for file in path.glob("seed*/metrics.json"))
            workdirs += [path] if (path / "metrics.json").exists() or not seeds else seeds
    if len({path.resolve() for path in workdirs}) < len(workdirs):
        raise UserError(f"{','.join(words)} names a run twice")
    return workdirs


def names_of(a: Sequence[Path], b: Sequence[Path], heads: Sequence[str | None]) -> tuple[str, str]:
    """Short names for two sides: of what their paths share, the part in which they differ.

    >>> runs = [Path("/runs/plain/seed0"), Path("/runs/plain/seed1")]
    >>> names_of(runs, [Path("/runs/dropclass/seed0")], (None, None))
    ('plain', 'dropclass/seed0')
    """
    if list(a) == list(b):
        return tuple(f"{head or 'own'} head" for head in heads)
    folders = [[str(path.absolute()) for path in side] for side in (a, b)]
    shared = [os.path.commonprefix(side) for side in folders]  # noqa: RUF071 (by characters)
    for n, side in enumerate((a, b)):
        if len(side) > 1:  # without the start of what tells its runs apart
            shared[n] = re.sub(r"[-_/.]*(seed|run)?[-_]*$", "", shared[n])
    start = Path(os.path.commonpath(shared))
    names = [str(Path(path).relative_to(start)) for path in shared]
    return tuple(names) if "." not in names else ("A", "B")


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
    if sides[0] == sides[1] and heads[0] == heads[1]:
        raise UserError("both sides are the same; give --head_a=drop --head_b=plain for its heads")
    names = names_of(*sides, heads)
    a = read(sides[0], given.split, heads[0], names[0])
    b = read(sides[1], a.split, heads[1], names[1])
    outcome = compare(a, b, given.resamples)
    print(compare_summary.text(outcome))
    slug = "-".join(name.replace("/", "_").replace(" ", "_") for name in outcome.names)
    print(compare_page.write(Path(given.out or f"compare-{slug}"), outcome))


if __name__ == "__main__":
    flags.DEFINE_list("a", [], "The runs of one side: folders, globs.")
    flags.DEFINE_list("b", [], "The runs of the other.")
    flags.DEFINE_string("split", None, "Of the data set; val by default.")
    for side in "ab":
        flags.DEFINE_enum(
            f"head_{side}", None, HEADS, f"Which head {side.upper()} predicts with; its own."
        )
    flags.DEFINE_string("out", None, "The folder to write to; compare-A-B by default.")
    flags.DEFINE_integer("resamples", bootstrap.RESAMPLES, "Draws of the images.", 100)
    app.run(main, positional=True)
