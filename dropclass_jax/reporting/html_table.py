"""The tables of a report, as HTML. `entry` and `classes` are as in `summary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.summary import Classes, Entry
from dropclass_jax.reporting import page, table, wording
from dropclass_jax.reporting.formats import percent
from dropclass_jax.reporting.markup import Html, b, code, p


def of_classes(entries: Sequence[Entry], classes: Classes) -> Html:
    """One split class by class, the groups' means between them.

    Args:
      entries: its evaluations, one a head, the predicting head's first.
      classes: `classes` of `metrics.json`.
    """
    entry = entries[0]
    heads = [other["head"] for other in entries]
    header = ["class", "training share", f"{entry['split']} share"]
    header += [f"IoU, {head} head" for head in heads] if len(heads) > 1 else ["IoU"]
    others = [score for score in table.SCORES if score != "iou" and score in entry]
    header += [table.SCORES[score] for score in others]
    blank = [""] * len(others)
    shares = summary.split_shares(entry)
    groups = [summary.group_means(other, classes) for other in entries]
    rows: list[tuple[str, Sequence[Html | str]]] = []
    group = None
    for k in summary.by_share(classes):
        facts = classes[k]
        if (new := summary.group_of(facts["train_pixel_share"])) != group:
            group = new
            means = [wording.number(means[group][0]) for means in groups]
            title = f"{group} classes, mean of {groups[0][group][1]}"
            rows.append(("group", [title, "", "", *means, *blank]))
        cells = [
            page.swatch(facts["color"]) + facts["name"],
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
    note: list[Html | str] = [
        f"All in %, on {entry['images']} images of ",
        code(entry["split"]),
        ". ",
        b("Accuracy"),
        ": the share of a class's pixels that were called it, also known as recall. ",
        b("Precision"),
        ": the share of the pixels called it that are it. ",
    ]
    if "f1" in entry:
        note += [b("F1"), ": the harmonic mean of the two. "]
    if "boundary_iou" in entry:
        note += [
            b("Boundary IoU"),
            ": the IoU of what lies near a class's outline, within 2% of the image's diagonal. ",
        ]
    if len(heads) > 1:
        note.append(f"All but the IoU are of the {heads[0]} head. ")
    note.append("A dash: there is nothing to divide by. ")
    if missing:
        note += [
            b(f"Absent from {entry['split']}"),
            " (neither labelled nor predicted) and left out of the mean: ",
            wording.names(missing, classes),
            ". ",
        ]
    return page.table(header, rows) + p(*note, "Full precision: ", code("metrics.csv"), ".")


def of_views(metrics: Mapping[str, Any]) -> Html:
    """`view_results` of `metrics.json`, each beside the result of whole images."""
    whole = {(entry["split"], entry["head"]): entry for entry in metrics["results"]}
    rows: list[tuple[str, Sequence[Html | str]]] = []
    shown = None
    for entry in metrics["view_results"]:
        key = entry["split"], entry["head"]
        if key != shown:
            head = f", {entry['head']} head" if metrics["dropclass"] else ""
            rows.append(("group", [entry["split"] + head, *[""] * 6]))
            if key in whole:
                rows.append(("", _view_cells(whole[key], metrics["classes"], None)))
            shown = key
        rows.append(("", _view_cells(entry, metrics["classes"], whole.get(key))))
    header = ["images seen", "mean IoU", "against whole", *summary.GROUPS, "boundary IoU"]
    note = p(
        "Means over classes, in %. ",
        b("slide"),
        ": a window of so many pixels, moved by so many, with the logits averaged where windows "
        "overlap. ",
        b("scales"),
        " and ",
        b("flip"),
        ": the image resized and mirrored, with the probabilities averaged. Everything else on "
        "this page is of images seen whole.",
    )
    return page.table(header, rows) + note


def _view_cells(entry: Entry, classes: Classes, whole: Entry | None) -> list[str]:
    difference = None if whole is None else table.difference(entry["mean_iou"], whole["mean_iou"])
    return [
        entry.get("inference", summary.WHOLE),
        wording.number(entry["mean_iou"]),
        difference or "",
        *(wording.number(mean) for mean, _ in summary.group_means(entry, classes).values()),
        wording.number(entry.get("mean_boundary_iou")),
    ]
