"""Per-class results as text for the terminal and as CSV, commonest training class first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dropclass_jax import files
from dropclass_jax.evaluation import inference, summary
from dropclass_jax.evaluation.summary import Classes, Entry
from dropclass_jax.reporting.formats import percent, points
from dropclass_jax.reporting.text_table import aligned

# Of every class, with their headings; results of older versions lack the last two.
SCORES = {
    "iou": "IoU",
    "accuracy": "accuracy",
    "precision": "precision",
    "f1": "F1",
    "boundary_iou": "boundary IoU",
}
CSV_COLUMNS = (
    "split",
    "head",
    "inference",
    "class",
    "group",
    "train_pixels",
    "train_pixel_share",
    "split_pixels",
    "split_pixel_share",
    *SCORES,
)


def class_table(entry: Entry, classes: Classes, baseline: Entry | None = None) -> str:
    """One evaluation class by class, then its means, as aligned text (all numbers in %).

    Args:
      entry: an element of `results` in `metrics.json`.
      classes: `classes` of `metrics.json`.
      baseline: another evaluation of the same classes to compare with; adds its IoU and the
        difference in points.
    """
    compared = baseline is not None
    scores = [score for score in SCORES if score in entry]
    header = ["class", "train", entry["split"], *(SCORES[score] for score in scores)]
    shares = summary.split_shares(entry)
    rows = [
        [
            classes[k]["name"],
            percent(classes[k]["train_pixel_share"], 2),
            percent(shares[k], 2),
            *(percent(entry[score][k]) for score in scores),
            *(_against(entry["iou"][k], baseline["iou"][k]) if compared else ()),
        ]
        for k in summary.by_share(classes)
    ]
    # name, mean IoU, the baseline's
    means = [("mean IoU", entry["mean_iou"], baseline["mean_iou"] if compared else None)]
    others = summary.group_means(baseline if compared else entry, classes)
    for group, (mean, count) in summary.group_means(entry, classes).items():
        means.append((f"  {group} classes ({count})", mean, others[group][0]))
    blank = [""] * (len(scores) - 1)
    mean_rows = [
        [name, "", "", percent(mean), *blank, *(_against(mean, other) if compared else ())]
        for name, mean, other in means
    ]
    title = f"{entry['split']}, {entry['head']} head, {entry['images']} images{_seen(entry)}"
    if compared:
        header += ["baseline IoU", "difference"]
        title += f"; baseline: {baseline['split']}, {baseline['head']} head{_seen(baseline)}"
    return "\n".join(
        [
            f"{title} (numbers in %; train and {entry['split']}: share of the pixels)",
            *aligned(header, rows, mean_rows),
            *_footer(entry, classes),
        ]
    )


def context_gap_table(inside: Entry, outside: Entry, classes: Classes) -> str:
    """IoU of each class in its usual context, out of it, and the gap in points, as aligned text."""
    gaps = summary.context_gaps(inside, outside)
    rows = [
        [
            classes[k]["name"],
            percent(classes[k]["train_pixel_share"], 2),
            percent(inside["iou"][k]),
            percent(outside["iou"][k]),
            points(gaps[k]),
        ]
        for k in summary.by_share(classes)
    ]
    both = [k for k, gap in enumerate(gaps) if gap is not None]
    means = [
        [
            f"mean ({len(both)} classes)",
            "",
            percent(summary.mean_present([inside["iou"][k] for k in both])),
            percent(summary.mean_present([outside["iou"][k] for k in both])),
            points(summary.mean_present(gaps)),
        ]
    ]
    title = f"IoU in context ({inside['split']}) and out of it ({outside['split']}), in %"
    footer = [f"{inside['head']} head; gap = in context - out of context, in points"]
    if len(both) < len(classes):
        footer.append("'-': absent from that split, or 0 in both; left out of the mean")
    header = ["class", "train", "in context", "out of context", "gap"]
    return "\n".join([title, *aligned(header, rows, means), *footer])


def write_csv(path: str | os.PathLike[str], metrics: Mapping[str, Any]) -> None:
    """Write `metrics` (the content of `metrics.json`) as one row per result and class.

    Shares and scores are fractions in 0..1 at full precision; the scores of an absent class are
    empty.
    """
    classes = metrics["classes"]
    rows = []
    for entry in [*metrics["results"], *metrics.get("view_results", [])]:
        shares = summary.split_shares(entry)
        for k in summary.by_share(classes):
            facts = classes[k]
            rows.append(
                [
                    entry["split"],
                    entry["head"],
                    entry.get("inference", summary.WHOLE),
                    facts["name"],
                    summary.group_of(facts["train_pixel_share"]),
                    facts["train_pixels"],
                    facts["train_pixel_share"],
                    entry["pixels"][k],
                    float(shares[k]),
                    *(entry[score][k] if score in entry else None for score in SCORES),
                ]
            )
    files.write_csv(Path(path), [CSV_COLUMNS, *rows])


def difference(value: float | None, other: float | None) -> str:
    """How many points a fraction is above another: `+1.2`, or `-` where one is missing."""
    return points(None if value is None or other is None else value - other)


def _against(value: float | None, other: float | None) -> list[str]:
    return [percent(other), difference(value, other)]


def _seen(entry: Entry) -> str:
    """The views, where they were not whole images: `, slide 128x128/85x85`."""
    seen = entry.get("inference", summary.WHOLE)
    return "" if seen == summary.WHOLE else f", {seen}"


def _footer(entry: Entry, classes: Classes) -> list[str]:
    missing = summary.absent(entry)
    overall = {
        "pixel accuracy": "pixel_accuracy",
        "frequency-weighted IoU": "frequency_weighted_iou",
        "mean accuracy": "mean_accuracy",
        "mean F1": "mean_f1",
        "mean boundary IoU": "mean_boundary_iou",
    }
    lines = [
        f"mean IoU over the {len(classes) - len(missing)} classes present; accuracy is also called "
        "recall",
        "; ".join(f"{name} {percent(entry[key])}" for name, key in overall.items() if key in entry),
        "class groups by share of the training pixels: "
        + ", ".join(f"{group} {meaning}" for group, meaning in summary.GROUPS.items()),
    ]
    if missing:
        names = ", ".join(classes[k]["name"] for k in missing)
        lines.append(f"'-' in IoU: absent from {entry['split']}, left out of the mean: {names}")
    present = [k for k in range(len(classes)) if k not in missing]
    if any(entry["accuracy"][k] is None for k in present):
        lines.append("'-' in accuracy: predicted, but no pixel has this label")
    if any(entry["precision"][k] is None for k in present):
        lines.append("'-' in precision: never predicted")
    return lines


def print_tables(
    content: Mapping[str, Any],
    heads: Iterable[str] | None = None,
    views: inference.Views = inference.WHOLE,
) -> None:
    """Print a table for each result; for a DropClass model only those of the drop head by default.

    Results of other views than whole images are compared with those, where they are there.

    Args:
      content: of ``metrics.json``.
      heads: whose results.
      views: which results.
    """
    heads = tuple(heads or (("drop",) if content["dropclass"] else ("plain",)))
    of_whole = {(entry["split"], entry["head"]): entry for entry in content["results"]}
    shown, baselines = list(of_whole.values()), {}
    if views != inference.WHOLE:
        name = inference.describe(views)
        shown = [entry for entry in content["view_results"] if entry["inference"] == name]
        baselines = of_whole
    shown = [entry for entry in shown if entry["head"] in heads]
    for entry in shown:
        baseline = baselines.get((entry["split"], entry["head"]))
        print()
        print(class_table(entry, content["classes"], baseline))
    by_split = {entry["split"]: entry for entry in shown if entry["head"] == heads[0]}
    inside, outside = summary.CONTEXT_SPLITS
    if {inside, outside} <= by_split.keys():
        print()
        print(context_gap_table(by_split[inside], by_split[outside], content["classes"]))
