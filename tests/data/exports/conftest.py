"""A folder for an export, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dropclass_jax import data


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "export"


@pytest.fixture
def load(root, tmp_path) -> Callable[..., data.Dataset]:
    """Loads the export, or another folder, with options."""
    return lambda folder=root, **options: data.load(
        "folder", folder, tmp_path / "prepared", **options
    )
