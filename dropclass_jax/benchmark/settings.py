"""Time and memory of a step with DropClass under other settings than the default ones.

Rematerialisation of the backbone's blocks, no donation of the old state's memory, and how much of
the upsampled logits the loss has at a time. Which of them pay depends on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dropclass_jax.benchmark import text, timing
from dropclass_jax.benchmark.case import (
    DEFAULT,
    Case,
    Settings,
    compile_side_by_side,
    compiled_step,
    run_of,
)
from dropclass_jax.benchmark.section import Options, keeping
from dropclass_jax.errors import first_line
from dropclass_jax.parallel import pmap

TITLE = "A step with DropClass under other settings"

SETTINGS = {
    "remat": Settings(remat=True),
    "without donation": Settings(donate=False),
    "loss all at once": Settings(block_bytes=2**40),
    "loss in blocks of 1 MiB": Settings(block_bytes=2**20),
    "loss in blocks of 16 MiB": Settings(block_bytes=2**24),
    "loss in blocks of 256 MiB": Settings(block_bytes=2**28),
}
_QUICK = 3  # of them


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time each setting and the default one by turns, and read what the compiler says of memory.

    Returns:
      For ``default`` and each of ``SETTINGS``: summaries of ``seconds`` and ``times_default``,
      ``temporary_bytes`` and ``peak_bytes``; or an ``error``, as where the memory is too small.
    """
    chosen = dict(list(SETTINGS.items())[: _QUICK if options.quick else None])
    compile_side_by_side(
        case, [("dropclass", settings) for settings in (DEFAULT, *chosen.values())]
    )
    default = run_of(case, "dropclass")
    results: dict[str, dict[str, Any]] = {}
    with keeping(results):
        for name, settings in chosen.items():
            try:
                runs = {"default": default, name: run_of(case, "dropclass", settings)}
                seconds = timing.in_turns(runs, options.repeats)
            except jax.errors.JaxRuntimeError as error:
                results[name] = {"error": first_line(error)}
                continue
            if "default" not in results:
                results["default"] = _result(case, DEFAULT, seconds["default"], seconds["default"])
            results[name] = _result(case, settings, seconds[name], seconds["default"])
    return results


def _result(
    case: Case, settings: Settings, seconds: Sequence[float], default: Sequence[float]
) -> dict[str, Any]:
    step = compiled_step(case, "dropclass", settings).step
    return {
        "seconds": timing.summary(seconds),
        "times_default": timing.ratio(seconds, default),
        "temporary_bytes": step.memory_analysis().temp_size_in_bytes,
        "peak_bytes": pmap.peak_bytes(step),
    }


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """A table for each network."""
    header = ["", "median", "of the same turn's default", "temporary", "peak"]
    out = []
    for case, result in results:
        out += ["", str(case), *text.table(header, result, _cells)]
    return out


def _cells(one: Mapping[str, Any]) -> list[str]:
    return [
        text.seconds(one["seconds"]["median"]),
        text.ratio(one["times_default"]),
        text.mebibytes(one["temporary_bytes"]),
        text.mebibytes(one["peak_bytes"]),
    ]
