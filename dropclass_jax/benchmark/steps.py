"""DropClass over plain, in time: training steps in turns within one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax

from dropclass_jax.benchmark import aims, text, timing
from dropclass_jax.benchmark.case import DEFAULT, VARIANTS, Case, compile_side_by_side, run_of
from dropclass_jax.benchmark.section import Options, keeping
from dropclass_jax.errors import first_line

TITLE = "Time of a training step"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time the variants of a step.

    Returns:
      ``variants``: a dict each with summaries of ``seconds`` and ``times_plain``, or an ``error``
      (the naive ones may not fit into the memory); and ``aims``.
    """
    naive = () if options.quick else VARIANTS[2:]
    compile_side_by_side(case, [(variant, DEFAULT) for variant in (*VARIANTS[:2], *naive)])
    variants = _against_plain(case, "dropclass", options.repeats)
    ratio = variants["dropclass"]["times_plain"]["median"]
    result = {"variants": variants, "aims": {"seconds": aims.judged("seconds", ratio)}}
    with keeping(result):
        for variant in naive:
            try:
                # In fewer turns: they are slow, and far enough from plain.
                variants[variant] = _against_plain(case, variant, min(options.repeats, 3))[variant]
            except jax.errors.JaxRuntimeError as error:
                variants[variant] = {"error": first_line(error)}
    return result


def _against_plain(case: Case, variant: str, repeats: int) -> dict[str, Any]:
    """The plain step and another one by turns."""
    runs = {name: run_of(case, name) for name in ("plain", variant)}
    seconds = timing.in_turns(runs, repeats)
    return {
        name: {
            "seconds": timing.summary(values),
            "times_plain": timing.ratio(values, seconds["plain"]),
        }
        for name, values in seconds.items()
    }


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """The table, and the aim."""
    header = ["", "median", "quartiles", "of the same turn's plain step", "images/s"]
    out = []
    for case, result in results:
        table = text.table(header, result["variants"], partial(_cells, case.batch))
        out += ["", str(case), *table]
        out += [aims.line(name, aim) for name, aim in result["aims"].items()]
    return out


def _cells(batch: int, one: Mapping[str, Any]) -> list[str]:
    return [
        text.seconds(one["seconds"]["median"]),
        text.spread(one["seconds"]),
        text.ratio(one["times_plain"]),
        f"{batch / one['seconds']['median']:.3g}",
    ]
