"""The HTML report of one run."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.summary import _by_split, _context_pair, headline
from dropclass_jax.reporting import figures, html_table, page, pictures, wording
from dropclass_jax.reporting.markup import Html, b, code, h1, h2, join, p, pre, warn

TERMS = {
    "IoU": "Intersection over union: of all pixels that are this class, or were called it, the "
    "share that is both. 100% is perfect, 0% means that not one pixel is right. A class that is "
    "rare counts as much as one that fills the picture.",
    "Mean IoU": "Its mean over the classes present; the field's usual score.",
    "Pixel share": "How much of the labelled training pixels a class holds. Rare classes give a "
    "network little to learn from, and it can ignore them at almost no cost to its loss.",
    "Head, medium and tail classes": "; ".join(
        f"{group}: {meaning}" for group, meaning in summary.GROUPS.items()
    )
    + ". The thick grey lines are the groups' mean IoUs: where they climb to the right, common "
    "classes do better than rare ones.",
}
HEAD_TERMS = {
    "Drop head and plain head": "A DropClass network answers in two ways. The plain head "
    "classifies the features as they are. The drop head first splits them into one part per class, "
    "averages the parts and classifies the result; in training random classes are left out of that "
    "average. Both share the backbone and the classifier, so the two compare two readings of one "
    "network, not DropClass with ordinary training."
}


def run_page(
    metrics: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    unreadable: int,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    config: str | None,
) -> str:
    """The page, as HTML.

    Args:
      metrics: the content of ``metrics.json``.
      lines: the records of the run's course.
      unreadable: how many more there are that could not be read.
      samples: of each split some images with label and prediction.
      config: the run's config as JSON; None where it is not there.
    """
    # Class names and file names are text: a `$` in one must not start a formula.
    with matplotlib.rc_context({"text.parse_math": False}):
        body = [
            *_opening(metrics, lines),
            *_by_class(metrics),
            *_views(metrics),
            *_context(metrics),
            *_confusion(metrics),
            *_pictures(metrics, samples),
            *_course(metrics, lines, unreadable),
            *_reproduce(metrics, config),
        ]
    return page.page(f"{metrics['dataset']}: {metrics['model']}", body)


def _opening(metrics: Mapping[str, Any], lines: Sequence[Mapping]) -> list[Html]:
    entries = headline(metrics)
    classes, entry = metrics["classes"], entries[0]
    method = "DropClass" if metrics["dropclass"] else "plain training"
    tail, tail_count = summary.group_means(entry, classes)["tail"]
    commonest, constant = summary.constant_answer(entry)
    reader = f", {entry['head']} head" if metrics["dropclass"] else ""
    numbers = [(entry["mean_iou"], f"mean IoU on {entry['split']}{reader}")]
    numbers += [(tail, f"mean IoU of the {tail_count} tail classes")] if tail_count else []
    numbers += [
        (other["mean_iou"], f"mean IoU of the {other['head']} head") for other in entries[1:]
    ]
    if pair := _context_pair(metrics):
        numbers.append((pair[1]["mean_iou"], f"mean IoU out of context{reader}"))
    name = classes[commonest]["name"]
    numbers += [
        (constant, f"mean IoU of always answering “{name}”"),
        (entry["pixel_accuracy"], "of the pixels are right"),
    ]
    return [
        h1(f"{metrics['dataset']}: {metrics['model']} with {method}"),
        p(
            f"Semantic segmentation: one of {len(classes)} classes for every pixel of an image.",
            kind="under",
        ),
        p(wording.opening(metrics, entries), kind="lead"),
        page.tiles([(wording.percent(value), what) for value, what in numbers]),
        h2("What stands out"),
        page.bullets(wording.findings(entries, classes, _context_pair(metrics), lines)),
    ]


def _by_class(metrics: Mapping[str, Any]) -> list[Html]:
    entries, classes = headline(metrics), metrics["classes"]
    split = entries[0]["split"]
    scatter = figures.iou_against_share(entries[0], classes)
    bars = figures.iou_bars(entries, classes)
    blocks = [
        h2("Common and rare classes"),
        page.beside(
            page.vector(scatter, "share", f"IoU against pixel share per class of {split}"),
            TERMS,
        ),
        page.beside(
            page.vector(bars, "bars", f"IoU per class of {split}"),
            {
                "How to read it": "The share beside a name is the class's share of the training "
                "pixels, the number at the end of a bar its IoU in %. A class marked absent is "
                f"neither labelled nor predicted in {split}."
            }
            | (HEAD_TERMS if metrics["dropclass"] else {}),
        ),
        h2("Every class in numbers"),
        html_table.of_classes(entries, classes),
    ]
    blocks += [
        page.folded(f"The same for {other}", html_table.of_classes(others, classes))
        for other, others in _by_split(metrics).items()
        if other != split
    ]
    return blocks


def _views(metrics: Mapping[str, Any]) -> list[Html]:
    if not metrics.get("view_results"):
        return []
    return [h2("Seen in other ways"), html_table.of_views(metrics)]


def _context(metrics: Mapping[str, Any]) -> list[Html]:
    pair = _context_pair(metrics)
    if pair is None:
        return []
    inside, outside = pair
    figure = figures.context_gap(inside, outside, metrics["classes"])
    terms = {
        "Context gap": code(inside["split"])
        + " shows each class where it usually stands, "
        + code(outside["split"])
        + " shows it elsewhere. A network that knows a class by its surroundings instead of its "
        "looks loses IoU there: the gap is what it loses.",
        "How to read it": "Filled dot: in context. Hollow diamond: out of context. The further "
        "left the diamond is of the dot, the more the network leaned on the surroundings.",
        "Here": wording.gap(inside, outside, metrics["classes"]),
    }
    label = "IoU per class in and out of context"
    return [h2("In and out of context"), page.beside(page.vector(figure, "gap", label), terms)]


def _confusion(metrics: Mapping[str, Any]) -> list[Html]:
    entry = headline(metrics)[0]
    classes = metrics["classes"]
    pairs = [
        f"{rate:.0%} of the pixels of "
        + b(classes[label]["name"])
        + " are called "
        + b(classes[answer]["name"])
        for label, answer, rate in summary.top_confusions(entry, 5)
        if rate >= 0.005
    ]
    reader = f" ({entry['head']} head)" if metrics["dropclass"] else ""
    figure = figures.confusion(entry, classes)
    return [
        h2("What is taken for what"),
        p(
            "Each row is a true class of ",
            code(entry["split"]),
            f" and says where its pixels go{reader}; the diagonal is what is right. Classes are "
            "ordered by their share of training, so blue cells to the left of the diagonal are "
            "rare classes taken for common ones.",
            " The largest mistakes:" if pairs else "",
        ),
        page.bullets(pairs),
        page.vector(figure, "confusion", "Confusion matrix", wide=True),
    ]


def _pictures(
    metrics: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Html]:
    blocks = []
    for split, of_split in samples.items():
        some = "one image" if len(of_split) == 1 else f"{len(of_split)} images"
        title = f"What the network answers on {some} of {split}"
        figure = pictures.sample_grid(of_split, metrics["classes"], title)
        blocks.append(page.raster(figure, title))
    if not blocks:
        return []
    reader = f"{headline(metrics)[0]['head']} head" if metrics["dropclass"] else "network"
    lead = p(
        f"Left the image, in the middle its label, right the answer of the {reader}. Striped "
        "pixels have no label and count neither as right nor as wrong."
    )
    return [h2("Pictures"), lead, *blocks]


def _course(
    metrics: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], unreadable: int
) -> list[Html]:
    if not lines:
        return []
    words = []
    if metrics["dropclass"]:
        words.append(
            "The total is lambda times the plain head's loss, plus (1 - lambda) times the drop "
            "head's, plus a penalty on whatever probability is left on what was just dropped."
        )
    losses = [line["loss"] for line in lines if "loss" in line]
    if broken := sum(loss is None or not math.isfinite(loss) for loss in losses):
        words.append(warn(f"The loss was not finite at {broken} logged steps."))
    if unreadable:
        many = wording.count(unreadable, "unreadable line was", "unreadable lines were")
        words.append(f"{many} left out of " + code("metrics.jsonl") + ".")
    figure = page.vector(figures.curves(lines), "curves", "Training curves", wide=True)
    text = [p(join(*words, between=" "))] if words else []
    return [h2("The course of training"), *text, figure]


def _reproduce(metrics: Mapping[str, Any], config: str | None) -> list[Html]:
    unknown = "not recorded"
    facts = {
        "Seed": metrics.get("seed", unknown),
        "Steps": metrics["step"],
        "Device": metrics.get("device", unknown),
        "Time": _time(metrics) or unknown,
        "Versions": ", ".join(f"{k} {v}" for k, v in metrics.get("versions", {}).items())
        or unknown,
    }
    blocks = [
        h2("How to reproduce it"),
        pre(metrics.get("command", unknown)),
        page.definitions(facts, "facts"),
    ]
    if config is not None:
        with contextlib.suppress(ValueError):  # not JSON: shown as it is
            config = json.dumps(json.loads(config), indent=2, ensure_ascii=False)
        blocks.append(page.folded("The whole configuration", pre(config)))
    return blocks


def _time(metrics: Mapping[str, Any]) -> str:
    if not metrics.get("seconds"):
        return ""
    time = wording.duration(metrics["seconds"])
    if "goodput" in metrics:
        time += f", {metrics['goodput']:.0%} of it in training steps that count"
    return time
