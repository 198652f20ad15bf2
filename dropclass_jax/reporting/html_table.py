"""The tables of a report, as HTML. `entry` and `classes` are as in `summary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.summary import Classes, Entry
from dropclass_jax.reporting import page, table, wording
from dropclass_jax.reporting.formats import percent


def of_classes(entries: Sequence[Entry], classes: Classes) -> str:
    """One split class by class, the groups' means between them.

    Args:
      entries: its evaluations, one a head, the predicting head's first.
      classes: `classes` of `metrics.json`.
    """
    entry, split = entries[0], page.text(entries[0]["split"])
    heads = [other["head"] for other in entries]
    header = ["class", "training share", f"{entry['split']} share"]
    header += [f"IoU, {head} head" for head in heads] if len(heads) > 1 else ["IoU"]
    others = [score for score in table.SCORES if score != "iou" and score in entry]
    header += [table.SCORES[score] for score in others]
    blank = [""] * len(others)
    shares = summary.split_shares(entry)
    groups = [summary.group_means(other, classes) for other in entries]
    rows: list[tuple[str, Sequence[str]]] = []
    group = None
    for k in summary.by_share(classes):
        facts = classes[k]
        if (new := summary.group_of(facts["train_pixel_share"])) != group:
            group = new
            means = [wording.number(means[group][0]) for means in groups]
            title = f"{group} classes, mean of {groups[0][group][1]}"
            rows.append(("group", [title, "", "", *means, *blank]))
        cells = [
            page.swatch(facts["color"]) + page.text(facts["name"]),
            percent(facts["train_pixel_share"], 2),
            percent(shares[k], 2),
            *(page.score(other["iou"][k]) for other in entries),
            *(page.score(entry[score][k]) for score in others),
        ]
        rows.append(("", cells))
    means = [wording.number(other["mean_iou"]) for other in entries]
    missing = summary.absent(entry)
    present = len(classes) - len(missing)
    rows.append(("mean", [f"mean over the {present} classes present", "", "", *means, *blank]))
    note = (
        f"All in %, on {entry['images']} images of <code>{split}</code>. <b>Accuracy</b>: the "
        "share of a class's pixels that were called it, also known as recall. <b>Precision</b>: "
        "the share of the pixels called it that are it. "
    )
    if "f1" in entry:
        note += "<b>F1</b>: the harmonic mean of the two. "
    if "boundary_iou" in entry:
        note += (
            "<b>Boundary IoU</b>: the IoU of what lies near a class's outline, within 2% of the "
            "image's diagonal. "
        )
    if len(heads) > 1:
        note += f"All but the IoU are of the {heads[0]} head. "
    note += "A dash: there is nothing to divide by. "
    if missing:
        names = wording.names(missing, classes)
        note += (
            f"<b>Absent from {split}</b> (neither labelled nor predicted) and left out of the "
            f"mean: {names}. "
        )
    return f"{page.table(header, rows)}<p>{note}Full precision: <code>metrics.csv</code>.</p>"


def of_views(metrics: Mapping[str, Any]) -> str:
    """`view_results` of `metrics.json`, each beside the result of whole images."""
    whole = {(entry["split"], entry["head"]): entry for entry in metrics["results"]}
    rows: list[tuple[str, Sequence[str]]] = []
    shown = None
    for entry in metrics["view_results"]:
        key = entry["split"], entry["head"]
        if key != shown:
            head = f", {entry['head']} head" if metrics["dropclass"] else ""
            rows.append(("group", [page.text(entry["split"]) + head, *[""] * 6]))
            if key in whole:
                rows.append(("", _view_cells(whole[key], metrics["classes"], None)))
            shown = key
        rows.append(("", _view_cells(entry, metrics["classes"], whole.get(key))))
    header = ["images seen", "mean IoU", "against whole", *summary.GROUPS, "boundary IoU"]
    note = (
        "Means over classes, in %. <b>slide</b>: a window of so many pixels, moved by so many, "
        "with the logits averaged where windows overlap. <b>scales</b> and <b>flip</b>: the image "
        "resized and mirrored, with the probabilities averaged. Everything else on this page is of "
        "images seen whole."
    )
    return f"{page.table(header, rows)}<p>{note}</p>"


def _view_cells(entry: Entry, classes: Classes, whole: Entry | None) -> list[str]:
    difference = None if whole is None else table.difference(entry["mean_iou"], whole["mean_iou"])
    return [
        page.text(entry.get("inference", summary.WHOLE)),
        wording.number(entry["mean_iou"]),
        difference or "",
        *(wording.number(mean) for mean, _ in summary.group_means(entry, classes).values()),
        wording.number(entry.get("mean_boundary_iou")),
    ]
