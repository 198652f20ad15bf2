"""The sentences of a report. Every number and every claim in them is computed from the results.

Functions return HTML where there are names in what they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.summary import Classes, Entry
from dropclass_jax.reporting import formats
from dropclass_jax.reporting.markup import Html, b, code, join, warn

SAME = 5e-4  # differences that vanish when a percentage is shown with one decimal


def number(value: float | None) -> str:
    """A fraction as a percentage without its sign: 0.123 -> 12.3, None -> a dash."""
    return formats.percent(value, unknown="–")


def percent(value: float | None) -> str:
    """0.123 -> 12.3%."""
    return f"{number(value)}%"


def points(difference: float) -> str:
    """The size of a difference between two percentages, without its sign: -0.031 -> 3.1 points."""
    return f"{abs(100 * difference):.1f} points"


def against(difference: float, other: str) -> str:
    """0.031 -> 3.1 points above the other, -0.031 -> 3.1 points below it, 0 -> level with it."""
    if abs(difference) < SAME:
        return f"level with {other}"
    return f"{points(difference)} {'above' if difference > 0 else 'below'} {other}"


def names(indices: Sequence[int], classes: Classes) -> Html:
    """Class names with commas."""
    return join(*(b(classes[k]["name"]) for k in indices), between=", ")


def count(many: int, noun: str, plural: str | None = None) -> str:
    """1 class, 2 classes."""
    return f"{many} {noun if many == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """412 -> 6 min 52 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def opening(metrics: Mapping[str, Any], entries: Sequence[Entry]) -> Html:
    """What was trained on what, and the headline: mean IoU, tail, and the trivial answer."""
    classes, entry = metrics["classes"], entries[0]
    how = (
        "with DropClass, which in training leaves random classes out of the features, "
        "so that rare classes are not learnt by their surroundings,"
        if metrics["dropclass"]
        else "in the plain way, with one cross-entropy loss,"
    )
    present = len(classes) - len(summary.absent(entry))
    subject = f"its {entry['head']} head" if metrics["dropclass"] else "it"
    sentences = [
        b(metrics["model"])
        + f" was trained {how} on "
        + b(metrics["dataset"])
        + f" for {count(metrics['step'], 'step')}.",
        f"On {count(entry['images'], 'image')} of "
        + code(entry["split"])
        + f" {subject} reaches a "
        + b(f"mean IoU of {percent(entry['mean_iou'])}")
        + f" over the {count(present, 'class', 'classes')} present.",
    ]
    tail, many = summary.group_means(entry, classes)["tail"]
    if many:
        sentences.append(
            f"Over the {count(many, 'tail class', 'tail classes')}, each "
            f"{summary.GROUPS['tail']} of the training pixels, it is " + b(percent(tail)) + "."
        )
    commonest, constant = summary.constant_answer(entry)
    sentences.append(
        f"Always answering “{classes[commonest]['name']}”, the commonest class there, would score "
        f"{percent(constant)}."
    )
    return join(*sentences, between=" ")


def findings(
    entries: Sequence[Entry],
    classes: Classes,
    context: tuple[Entry, Entry] | None,
    lines: Sequence[Mapping[str, Any]],
) -> list[Html | str]:
    """What a careful reader would point out, worst first."""
    entry = entries[0]
    sentences = [
        *_failures(entry, classes),
        *_imbalance(entry, classes),
        *_heads(entries, classes),
    ]
    if context is not None:
        sentences.append(gap(*context, classes))
    sentences += _earlier_best(entry, lines)
    sentences += _absent(entry, classes)
    sentences.append(
        "This is one run with one seed. Before a difference counts as an effect, repeat it with "
        "other seeds."
    )
    return sentences


def gap(inside: Entry, outside: Entry, classes: Classes) -> Html | str:
    """How much is lost out of context, on average and for which class most."""
    gaps = {
        k: value
        for k, value in enumerate(summary.context_gaps(inside, outside))
        if value is not None
    }
    if not gaps:
        return "No class is in both splits and found in one of them, so there is no gap to measure."
    mean = sum(gaps.values()) / len(gaps)
    worst = max(gaps, key=gaps.__getitem__)
    change = f"{'loses' if mean > 0 else 'gains'} {points(mean)} of IoU"
    if abs(mean) < SAME:
        change = "keeps its IoU"
    sentence = (
        f"Out of its usual context a class {change} on average "
        f"({count(len(gaps), 'class', 'classes')} of both splits, without those never found)"
    )
    if gaps[worst] >= SAME:
        sentence += "; " + names([worst], classes) + f" loses most, {points(gaps[worst])}"
    return sentence + "."


def _failures(entry: Entry, classes: Classes) -> list[Html]:
    sentences = []
    _, constant = summary.constant_answer(entry)
    if entry["mean_iou"] is not None and entry["mean_iou"] - constant < SAME:
        sentences.append(
            warn(
                "The network is no better than always answering the commonest class "
                f"({percent(entry['mean_iou'])} against {percent(constant)}): it has not learnt "
                "the task."
            )
        )
    for found, what in (
        (summary.never_predicted(entry), "never predicted"),
        (summary.never_right(entry), "predicted but never rightly"),
    ):
        if found:
            many = count(len(found), "class is", "classes are")
            sentences.append(warn(f"{many} {what} (IoU 0)") + ": " + names(found, classes) + ".")
    return sentences


def _imbalance(entry: Entry, classes: Classes) -> list[str]:
    means = summary.group_means(entry, classes)
    (head, _), (tail, _) = means["head"], means["tail"]
    if head is None or tail is None:
        return []
    side = "below" if tail < head else "above"
    return [
        f"Tail classes stand {points(head - tail)} {side} head classes "
        f"({percent(tail)} against {percent(head)})."
    ]


def _heads(entries: Sequence[Entry], classes: Classes) -> list[str]:
    if len(entries) < 2 or None in [entry["mean_iou"] for entry in entries]:
        return []
    first, second = entries[:2]
    other = f"the {first['head']} head"
    sentence = (
        f"The {second['head']} head of the same network scores {percent(second['mean_iou'])}, "
        f"{against(second['mean_iou'] - first['mean_iou'], other)}"
    )
    tails = [summary.group_means(entry, classes)["tail"][0] for entry in (first, second)]
    if None not in tails:
        gain = tails[1] - tails[0]
        sentence += f"; on tail classes {percent(tails[1])}, {against(gain, other)}"
    return [sentence + "."]


def _absent(entry: Entry, classes: Classes) -> list[Html]:
    missing = summary.absent(entry)
    if not missing:
        return []
    return [
        "Absent from "
        + code(entry["split"])
        + ", neither labelled nor predicted there, and so left out of every mean: "
        + names(missing, classes)
        + f" ({len(missing)} of {count(len(classes), 'class', 'classes')})."
    ]


def _earlier_best(entry: Entry, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Says so if an evaluation during training scored higher than the last one."""
    scores = {
        line["step"]: line["mean_iou"]
        for line in lines
        if line["kind"] == "eval"
        and (line["split"], line["head"]) == (entry["split"], entry["head"])
        and line["mean_iou"] is not None
    }
    if not scores or entry["mean_iou"] is None:
        return []
    best = max(scores, key=scores.__getitem__)
    if best == max(scores) or scores[best] - entry["mean_iou"] < SAME:
        return []
    return [
        f"The score was higher earlier in training: {percent(scores[best])} at step {best}, "
        f"{points(scores[best] - entry['mean_iou'])} above the result reported here."
    ]
