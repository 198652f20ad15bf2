"""What the work and the memory traffic of a step are for."""

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


def by_place(program: Program) -> list[dict[str, Any]]:
    """Operations, bytes and kernels of a step, summed up by place, the most bytes first."""
    flops, moved, kernels = Counter(), Counter(), Counter()
    for work in program.work:
        flops[place_of(work.source)] += work.flops
    for kernel in program.kernels:
        place = place_of(kernel.source)
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


def place_of(source: str) -> str:
    """What something is for, by its source in the traced program.

    >>> place_of("jit(train_step)/transpose(jvp(Segmenter))/head/neck/norm/mul")
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
