"""Breakdown of a step's operations and memory traffic by purpose, as "backward, head: norm"."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dropclass_jax.benchmark.case import Program

# The first of these in a source says what is done, the first of those in which part.
_KINDS = {
    "_resize": "resizing",
    "norm": "norm",
    "conv_general_dilated": "products",
    "dot_general": "products",
}
_PARTS = ("backbone", "head", "classifier", "refine")


def breakdown(program: Program) -> list[dict[str, Any]]:
    """Operations, bytes and kernels of a step by purpose, the most bytes first.

    Returns:
      Dicts of ``place`` (see ``purpose``), ``flops``, ``moved_bytes`` and ``kernels``.
    """
    flops, moved, kernels = Counter(), Counter(), Counter()
    for work in program.work:
        flops[purpose(work.source)] += work.flops
    for kernel in program.kernels:
        place = purpose(kernel.source)
        moved[place] += kernel.bytes
        kernels[place] += kernel.times
    return [
        {
            "place": place,
            "flops": flops[place],
            "moved_bytes": moved[place],
            "kernels": kernels[place],
        }
        for place in sorted(flops | moved, key=lambda place: -moved[place])
    ]


def purpose(source: str) -> str:
    """What an operation is for, by its source in the traced program.

    >>> purpose("jit(train_step)/transpose(jvp(Segmenter))/head/neck/norm/mul")
    'backward, head: norm'
    """
    if not source:
        return "added by the compiler (copies)"
    if "jvp" not in source:
        return "optimizer, draws and the record"
    direction = "backward" if "transpose(" in source else "forward"
    steps = source.split("/")
    part = next((part for part in _PARTS if part in steps), "loss")
    kind = next((kind for word, kind in _KINDS.items() if word in source), "elementwise")
    return f"{direction}, {part}: {kind}"
