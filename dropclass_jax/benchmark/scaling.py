"""One batch over 1 and over 8 devices that the host's CPU is split into.

They share the same cores, so that the ratio is no speed-up to come: below 1 it is what spreading a
step costs (exchanges between devices, smaller kernels), above 1 what one device leaves unused of
the cores. On accelerators each device brings its own; there compare images/s of real runs.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax.benchmark import fresh_process, text, timing
from dropclass_jax.benchmark.case import Case
from dropclass_jax.benchmark.section import Options

TITLE = "The same batch of 8 over 1 and over 8 devices of one CPU"

DEVICES = (1, 8)
_FLAG = "--xla_force_host_platform_device_count"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time steps of eight crops of half the size, each number of devices in its own process.

    Returns:
      ``case`` as measured; for each number of devices, as text, a summary of
      ``images_per_second``; ``throughput_ratio``, of 8 devices over 1.
    """
    small = dataclasses.replace(case, batch=8, height=case.height // 2, width=case.width // 2)
    rates = {}
    for devices in DEVICES:
        answer = fresh_process.ask(
            small, "dropclass", options.repeats, {**_environment(devices), "JAX_PLATFORMS": "cpu"}
        )
        rates[devices] = [small.batch / seconds for seconds in answer["step_seconds"]]
    first, last = DEVICES[0], DEVICES[-1]
    return {
        "case": str(small),
        **{str(n): {"images_per_second": timing.summary(values)} for n, values in rates.items()},
        "throughput_ratio": timing.ratio(rates[last], rates[first]),
    }


def _environment(devices: int) -> dict[str, str]:
    others = re.sub(rf"{_FLAG}=\d+", "", os.environ.get("XLA_FLAGS", ""))
    return {"XLA_FLAGS": f"{others} {_FLAG}={devices}".strip()}


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """A line for each network."""
    out = [""]
    for _, result in results:
        rates = ", ".join(
            f"{n} device{'s' * (n > 1)} "
            f"{result[str(n)]['images_per_second']['median']:.3g} images/s"
            for n in DEVICES
        )
        out.append(
            f"{result['case']}: {rates}: throughput {text.ratio(result['throughput_ratio'])} "
            "(they share the same cores: no speed-up to come)"
        )
    return out
