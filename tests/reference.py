"""Golden values of the reference implementations, and the weights and inputs they belong to.

The files under ``tests/golden`` hold results only. Weights and inputs follow from seeds by the
rules below, in NumPy, in the order of the PyTorch state dict; layouts are PyTorch's (NCHW, OIHW)
until ``nhwc``. The sources and versions are named in each file's ``meta``.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

DATA = pathlib.Path(__file__).parent / "golden"


class Reference(NamedTuple):
    """One file: its arrays by name, and ``meta`` (seeds, shapes, architecture, noise)."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def load(name: str) -> Reference:
    """Reads ``tests/golden/<name>.npz``."""
    with np.load(DATA / f"{name}.npz") as file:
        arrays = dict(file)
    return Reference(arrays, json.loads(str(arrays["meta"])))


def shapes(reference: Reference) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the PyTorch state dict, by its key, in order."""
    listed = json.loads(str(reference.arrays["shapes"]))
    return dict(zip(reference.arrays["keys"].tolist(), map(tuple, listed), strict=True))


def weights(reference: Reference, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """The PyTorch state dict: drawn in float64, rounded to float32, handed out as ``dtype``.

    Checks every tensor against the file, so that a mismatch here means another NumPy generator
    and not another network.
    """
    arrays, meta = reference
    state_dict, checks = {}, arrays["param_check"]
    # The index counts num_batches_tracked too.
    for i, (key, shape) in enumerate(shapes(reference).items()):
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "num_batches_tracked":
            continue
        draw = np.random.default_rng([meta["seed"], i]).standard_normal(shape)
        if len(shape) > 1:
            value = draw * np.sqrt(2.0 / np.prod(shape[1:]))
        elif leaf == "running_var":
            value = 1.0 + 0.2 * np.abs(draw)
        elif leaf == "weight":  # every weight of one axis is a norm's scale
            value = meta["bn_gain"] * (1.0 + 0.1 * draw)
        else:  # running_mean, bias
            value = 0.1 * draw
        value = (value * meta["key_scale"].get(key, 1.0)).astype(np.float32)
        _check(value, checks[i], key)
        state_dict[key] = value.astype(dtype)
    return state_dict


def image(rng: list[int], shape: list[int], check: np.ndarray | None = None) -> np.ndarray:
    """A float32 input ``[B, H, W, 3]`` from the seed and the NCHW shape that ``meta`` lists."""
    value = np.random.default_rng(rng).standard_normal(shape).astype(np.float32)
    if check is not None:
        _check(value, check, f"input {rng}")
    return nhwc(value)


def nhwc(x: np.ndarray) -> np.ndarray:
    """``[B, C, H, W]`` to ``[B, H, W, C]``."""
    return np.moveaxis(x, 1, -1)


def assert_close(actual: Any, desired: np.ndarray, tolerance: float) -> None:
    """Asserts ``max|actual - desired| <= tolerance * max|desired|``, in float64."""
    actual, desired = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
    assert actual.shape == desired.shape
    error = np.abs(actual - desired).max() / np.abs(desired).max()
    assert error <= tolerance, f"relative error {error:.2e} > {tolerance:.0e}"


def _check(value: np.ndarray, check: np.ndarray, name: str) -> None:
    """``check`` holds the first element and the sum; only the order of summation may differ."""
    value = value.astype(np.float64)
    assert value.flat[0] == check[0], name
    assert abs(value.sum() - check[1]) <= 1e-12 * np.abs(value).sum(), name
