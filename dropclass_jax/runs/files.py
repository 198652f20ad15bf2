"""Atomic writes of small files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN becomes null."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(finite(value), indent=1) + "\n")
    temporary.replace(path)


def finite(value: Any) -> Any:
    """The value for JSON: arrays as lists, NaN and infinities as null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
