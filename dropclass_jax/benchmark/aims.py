"""What DropClass may cost: set for ``hrnet_w18_small_v2`` at 512x1024, shown for any network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dropclass_jax.benchmark import text

# A step with DropClass, as a multiple of the plain one's.
AIMS = {"flops": 1.10, "temporary_bytes": 1.15, "seconds": 1.12}


def judged(quantity: str, ratio: float) -> dict[str, Any]:
    """An aim, the measured ratio, and whether it is met."""
    return {"aim": AIMS[quantity], "found": ratio, "met": ratio <= AIMS[quantity]}


def line(quantity: str, judgement: Mapping[str, Any]) -> str:
    """``'flops 1.18 x, aim 1.10 x: not met'``."""
    verdict = "met" if judgement["met"] else "not met"
    ratio, aim = text.times(judgement["found"]), text.times(judgement["aim"])
    return f"{quantity.replace('_', ' ')} {ratio}, aim {aim}: {verdict}"
