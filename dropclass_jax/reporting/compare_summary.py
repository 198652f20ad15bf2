"""What a comparison of two sides says: rows, verdicts, sentences.

Pure functions of an `Outcome`. Scores and differences are fractions in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dropclass_jax.comparison import bootstrap, intervals
from dropclass_jax.comparison.intervals import Estimate
from dropclass_jax.comparison.sides import Outcome
from dropclass_jax.evaluation import summary
from dropclass_jax.reporting.formats import percent, points
from dropclass_jax.reporting.text_table import aligned
from dropclass_jax.reporting.wording import against, count

NOISE = "within noise"
# Both score 0, which leaves no difference to speak of.
UNSEEN = "never predicted by either"
WRONG = "never right in either"
TOO_FEW = "too few images"  # that show the class, for an interval
LEVEL = 1 - intervals.CONFIDENCE


class Row(NamedTuple):
    """One score.

    Attributes:
      kind: `mean`, `group` or `class`.
      name: of the group or class.
      share: the class's of the training pixels; None for means.
      a: the first side's score; NaN for a class that it does not have.
      b: the second side's.
      difference: `b - a` with its interval; NaN where a side has no score, and the interval where
        too few images show the class.
      p: two-sided; of a class as it counts among all classes (Benjamini and Hochberg).
      verdict: `within noise`, `higher` or `lower` (B, than A); in parentheses for a class whose
        interval leaves out 0, but would by chance among so many classes; `never predicted by
        either` or `never right in either` where both score 0; `too few images`; `absent`.
    """

    kind: str
    name: str
    share: float | None
    a: float
    b: float
    difference: Estimate
    p: float
    verdict: str


def rows(outcome: Outcome) -> list[Row]:
    """The mean, the groups, then the classes by share of the training pixels."""
    comparison, classes = outcome.comparison, outcome.classes
    first = 1 + len(outcome.groups)
    p = np.concatenate([comparison.p[:first], bootstrap.discoveries(comparison.p[first:])])

    def row(m: int, kind: str, name: str, share: float | None = None) -> Row:
        a, b = float(comparison.a[m]), float(comparison.b[m])
        difference = Estimate(b - a, float(comparison.low[m]), float(comparison.high[m]))
        if a == b == 0:
            verdict = WRONG if any(side[m] for side in outcome.predicted) else UNSEEN
        else:
            verdict = _verdict(difference, p[m])
        return Row(kind, name, share, a, b, difference, float(p[m]), verdict)

    return [
        row(0, "mean", "mean IoU"),
        *(
            row(1 + n, "group", f"{group} classes ({size})")
            for n, (group, size) in enumerate(outcome.groups.items())
        ),
        *(
            row(first + k, "class", classes[k]["name"], classes[k]["train_pixel_share"])
            for k in summary.by_share(classes)
        ),
    ]


def _verdict(difference: Estimate, p: float) -> str:
    if math.isnan(difference.value):
        return "absent"
    if math.isnan(difference.low):
        return TOO_FEW
    if not difference.is_clear:
        return NOISE
    side = "higher" if difference.value > 0 else "lower"
    return side if p < LEVEL else f"({side})"


def sides(outcome: Outcome) -> list[str]:
    """What A and B are, a line each."""
    return [
        f"{letter}: {name}, {count(len(workdirs), 'run')} of "
        f"{' and '.join(map(str, steps))} steps, {head} head"
        for letter, name, workdirs, steps, head in zip(
            "AB", outcome.names, outcome.workdirs, outcome.steps, outcome.heads, strict=True
        )
    ]


def differing(outcome: Outcome) -> list[str]:
    """What is not the same on both sides, a line each: `config.optimizer.lr: 0.01 -> 0.02`."""
    return [f"{name}: {a} -> {b}" for name, a, b in outcome.differences]


def _same_networks(outcome: Outcome) -> bool:
    return outcome.workdirs[0] == outcome.workdirs[1]


def findings(outcome: Outcome) -> list[str]:
    """The outcome in sentences: the mean, the classes that differ, what that rests on."""
    mean, *others = rows(outcome)
    a, b = outcome.names
    value, low, high = mean.difference
    noise = "within noise" if mean.verdict == NOISE else "more than noise"
    interval = f"95 % interval: {points(low)} to {points(high)}"
    sentences = [f"In mean IoU {b} is {against(value, a)}, which is {noise} ({interval})."]
    if mean.verdict in (UNSEEN, WRONG):
        sentences = [f"In mean IoU {a} and {b} are both at 0: neither is ever right in any class."]
    classes = [row for row in others if row.kind == "class"]
    for verdict in ("higher", "lower"):
        if names := [row.name for row in classes if row.verdict == verdict]:
            sentences.append(f"{b} is {verdict} in {_list(names)}.")
    if unsure := [row.name for row in classes if row.verdict.startswith("(")]:
        sentences.append(
            f"The intervals of {_list(unsure)} leave out 0 too, but not by enough among "
            f"{len(classes)} classes, of which {LEVEL * len(classes):.1f} do by chance."
        )
    for verdict in (UNSEEN, WRONG):
        if names := [row.name for row in classes if row.verdict == verdict]:
            verb = "is" if len(names) == 1 else "are"
            sentences.append(f"{_list(names)} {verb} {verdict}.")
    if names := [row.name for row in classes if row.verdict == TOO_FEW]:
        sentences.append(
            f"Fewer than {bootstrap.FEW} images show {_list(names)}: too few for an interval."
        )
    quiet = sum(row.verdict == NOISE for row in classes)
    sentences.append(f"{quiet} of {len(classes)} classes are within noise.")
    return [*sentences, *_basis(outcome)]


def _basis(outcome: Outcome) -> list[str]:
    counts = [len(workdirs) for workdirs in outcome.workdirs]
    comparison = outcome.comparison
    images = f"{percent(comparison.of_images[0], 2)} points by the {outcome.images} images"
    if max(counts) == 1 and _same_networks(outcome):
        return [
            "This compares two heads of one network: the intervals are for other images alone "
            f"({images}), and the heads of a network of another seed may differ by more. To "
            "compare heads, give three or more runs, the same on both sides."
        ]
    if max(counts) == 1:
        return [
            "This compares two networks, not two methods: the intervals are for other images alone "
            f"({images}), and another seed of the same training may differ by more. To compare "
            "methods, give three or more runs a side."
        ]
    lines = [
        "The intervals are for other images and other seeds; the standard error of the difference "
        f"in mean IoU is {images}, {percent(comparison.of_seeds[0], 2)} by the seeds."
    ]
    if min(counts) == 1:
        lone, other = outcome.names if counts[0] == 1 else outcome.names[::-1]
        lines.append(f"{lone} has one run, whose seeds are taken to vary as those of {other}.")
    elif min(counts) == 2:
        lines.append(
            "Two runs say little of how seeds vary: train a third before you trust the intervals."
        )
    if outcome.steps[0] != outcome.steps[1]:
        lines.append("The sides were trained for different numbers of steps.")
    return lines


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _differing_text(outcome: Outcome) -> list[str]:
    if not outcome.differences:
        return ["Between the sides nothing differs but the folders."]
    return ["What differs, A -> B:", *(f"  {line}" for line in differing(outcome))]


def text(outcome: Outcome) -> str:
    """The whole of it for a terminal."""
    means = [row for row in rows(outcome) if row.kind != "class"]
    classes = [row for row in rows(outcome) if row.kind == "class"]
    return "\n".join(
        [
            *sides(outcome),
            "",
            *_differing_text(outcome),
            "",
            f"IoU on {outcome.split} in %, classes by their share of the training pixels",
            *aligned(HEADER, [cells(row) for row in classes], [cells(row) for row in means]),
            "",
            *findings(outcome),
        ]
    )


HEADER = ["class", "train", "A", "B", "B - A", "95 % interval", "verdict"]


def cells(row: Row) -> list[str]:
    """A row as `HEADER` heads it."""
    difference = row.difference
    known = not math.isnan(difference.low)
    return [
        row.name,
        percent(row.share, 2, unknown=""),
        percent(row.a),
        percent(row.b),
        points(difference.value),
        f"{points(difference.low)} to {points(difference.high)}" if known else "-",
        row.verdict,
    ]
