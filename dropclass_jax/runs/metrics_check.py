"""The types of what ``metrics.json`` holds: the file may be a stranger's, or edited by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from dropclass_jax.evaluation.inference import OUTPUTS

# Names and descriptions: no markup, no control characters.
_PLAIN = re.compile(r"[^<>&\"'\x00-\x1f\x7f-\x9f]+")


def fault(metrics: Any) -> str | None:
    """What is wrong with the content of a ``metrics.json``; None where nothing is.

    Only the types of values that are there are checked, not which are there.
    """
    if not isinstance(metrics, dict):
        return "it is no JSON object"
    classes = metrics.get("classes", [])
    entries = [metrics.get("results", []), metrics.get("view_results", [])]
    if not (_is_list(classes) and all(map(_is_list, entries))):
        return "its classes or results are no lists"
    checks: list[tuple[str, Mapping[str, Any] | Any, Mapping[str, Callable[[Any], bool]]]] = [
        ("metrics", metrics, _TOP),
        *((f"classes[{n}]", entry, _CLASS) for n, entry in enumerate(classes)),
        *(("results", entry, _entry(len(classes))) for kind in entries for entry in kind),
    ]
    for where, values, rules in checks:
        if not isinstance(values, dict):
            return f"{where} holds {values!r:.80}"
        for name, rule in rules.items():
            if name in values and not rule(values[name]):
                return f"{name!r} of {where} is {values[name]!r:.80}"
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and bool(_PLAIN.fullmatch(value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _is_color(value: Any) -> bool:
    return _is_list(value) and len(value) == 3 and all(_is_count(x) and x < 256 for x in value)


_TOP = {
    "dataset": _is_text,
    "model": _is_text,
    "dropclass": lambda value: isinstance(value, bool),
    "step": _is_count,
    "seed": lambda value: value is None or isinstance(value, int),
    "command": lambda value: value is None or _is_text(value),
    "device": lambda value: value is None or _is_text(value),
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "seconds": _is_number,
    "productive_seconds": _is_number,
    "goodput": _is_number,
}

_CLASS = {
    "name": _is_text,
    "color": _is_color,
    "train_pixels": _is_number,
    "train_pixel_share": _is_number,
}


def _entry(classes: int) -> dict[str, Callable[[Any], bool]]:
    """The rules for one result of so many classes."""

    def each(value: Any) -> bool:
        return _is_list(value) and len(value) == classes and all(map(_is_number, value))

    return {
        "split": _is_plain,
        "head": lambda value: value in OUTPUTS,
        "inference": _is_text,
        "images": _is_count,
        "mean_iou": _is_number,
        "pixel_accuracy": _is_number,
        **dict.fromkeys(("pixels", "iou", "accuracy", "precision", "f1", "boundary_iou"), each),
        "confusion": lambda value: (
            _is_list(value) and len(value) == classes and all(map(each, value))
        ),
        "groups": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    }
