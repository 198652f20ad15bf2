"""PyTorch weights onto flax variables and back to their names, by one table a family.

A rule pairs a PyTorch module name with a flax module path; ``{x}`` stands for the same number in
both, so the table reads in either direction. What a leaf is called follows from the last word of
the flax path: a ``norm...`` has scale, bias, mean and var, anything else a kernel and a bias.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dropclass_jax.errors import UserError

Path = tuple[str, ...]

_NORM_LEAVES = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_KERNEL_LEAVES = {"weight": ("params", "kernel"), "bias": ("params", "bias")}

# The first rule that matches is taken, in both directions.
_HRNET = (
    ("conv{i}", "backbone/stem{i}/conv"),
    ("bn{i}", "backbone/stem{i}/norm"),
    ("layer1.{b}.conv{i}", "backbone/stage1_block{b}/conv{i}"),
    ("layer1.{b}.bn{i}", "backbone/stage1_block{b}/norm{i}"),
    ("layer1.{b}.downsample.0", "backbone/stage1_block{b}/shortcut/conv"),
    ("layer1.{b}.downsample.1", "backbone/stage1_block{b}/shortcut/norm"),
    ("transition{s}.{i}.0", "backbone/transition{s}_branch{i}/conv"),
    ("transition{s}.{i}.1", "backbone/transition{s}_branch{i}/norm"),
    ("transition{s}.{i}.0.0", "backbone/transition{s}_new{i}/conv"),
    ("transition{s}.{i}.0.1", "backbone/transition{s}_new{i}/norm"),
    (
        "stage{s}.{m}.branches.{i}.{b}.conv{c}",
        "backbone/stage{s}_module{m}/branch{i}_block{b}/conv{c}",
    ),
    (
        "stage{s}.{m}.branches.{i}.{b}.bn{c}",
        "backbone/stage{s}_module{m}/branch{i}_block{b}/norm{c}",
    ),
    ("stage{s}.{m}.fuse_layers.{i}.{j}.0", "backbone/stage{s}_module{m}/fuse_{j}to{i}/conv"),
    ("stage{s}.{m}.fuse_layers.{i}.{j}.1", "backbone/stage{s}_module{m}/fuse_{j}to{i}/norm"),
    (
        "stage{s}.{m}.fuse_layers.{i}.{j}.{k}.0",
        "backbone/stage{s}_module{m}/fuse_{j}to{i}_down{k}/conv",
    ),
    (
        "stage{s}.{m}.fuse_layers.{i}.{j}.{k}.1",
        "backbone/stage{s}_module{m}/fuse_{j}to{i}_down{k}/norm",
    ),
    ("last_layer.0", "backbone/neck/conv"),
    ("last_layer.1", "backbone/neck/norm"),
    ("_classifier", "classifier"),
    ("clsdrop_conv1", "refine/conv"),
    ("clsdrop_bn1", "refine/norm"),
)

RULES = {"hrnet": _HRNET}


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What ``load_state_dict`` did with every key of the file and every leaf of the model.

    Attributes:
      matched: PyTorch keys that were loaded, as the file names them.
      missing: ``collection/path`` of the leaves that the file lacks and that kept their value.
      unused: PyTorch keys that name nothing in the model (``num_batches_tracked`` apart).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.matched)} loaded, {len(self.missing)} left at their initial value, "
            f"{len(self.unused)} unused"
        )


def flax_path(torch_key: str, family: str = "hrnet") -> Path | None:
    """``"bn1.weight"`` to ``("params", "backbone", "stem1", "norm", "scale")``; None if unknown.

    A leading ``module.`` or ``model.``, as wrappers of a network leave it, is ignored.
    """
    module, _, leaf = re.sub(r"^((module|model)\.)+", "", torch_key).rpartition(".")
    for torch_template, flax_template in RULES[family]:
        numbers = _match(torch_template, module)
        if numbers is not None:
            path = tuple(flax_template.format(**numbers).split("/"))
            leaves = _NORM_LEAVES if path[-1].startswith("norm") else _KERNEL_LEAVES
            if leaf not in leaves:
                return None
            collection, name = leaves[leaf]
            return (collection, *path, name)
    return None


def torch_key(path: Path, family: str = "hrnet") -> str | None:
    """The inverse of ``flax_path``: the key of a leaf ``(collection, ..., name)``, or None."""
    module = "/".join(path[1:-1])
    leaves = _NORM_LEAVES if path[-2].startswith("norm") else _KERNEL_LEAVES
    names = {flax_name: torch_name for torch_name, flax_name in leaves.items()}
    for torch_template, flax_template in RULES[family]:
        numbers = _match(flax_template, module)
        if numbers is not None:
            return f"{torch_template.format(**numbers)}.{names[path[0], path[-1]]}"
    return None


def torch_keys(variables: Mapping[str, Any], family: str = "hrnet") -> dict[str, Path]:
    """``{PyTorch key: (collection, ..., name)}`` for the leaves of ``variables`` that have one."""
    paths = traverse_util.flatten_dict(variables)
    return {key: path for path in paths if (key := torch_key(path, family)) is not None}


def load_state_dict(
    variables: Mapping[str, Any], state_dict: Mapping[str, np.ndarray], family: str = "hrnet"
) -> tuple[dict[str, Any], LoadReport]:
    """Puts a PyTorch state dict on the variables of the same network.

    Args:
      variables: ``{"params": ..., "batch_stats": ...}`` of the model; arrays or
        ``jax.ShapeDtypeStruct``, of which those the file lacks are handed back as they are.
      state_dict: ``{key: array}``, convolutions ``[out, in, kh, kw]``, linear ``[out, in]``.
      family: key of ``RULES``.

    Returns:
      Variables of the same structure, in the wider of the file's dtype and the model's (float64
      only where JAX has it on), and a ``LoadReport``. It is the caller's to decide which missing
      or unused keys are in order.

    Raises:
      UserError: an array has another shape than the model's, or two keys name the same leaf.
    """
    flat = traverse_util.flatten_dict(variables)
    loaded: dict[Path, Any] = {}
    matched, unused = [], []
    for key, array in state_dict.items():
        if key.endswith("num_batches_tracked"):
            continue
        path = flax_path(key, family)
        if path not in flat:
            unused.append(key)
            continue
        if path in loaded:
            raise UserError(f"{key} is in the weights twice, with and without a prefix; keep one")
        loaded[path] = _converted(key, np.asarray(array), flat[path])
        matched.append(key)
    missing = tuple("/".join(path) for path in flat if path not in loaded)
    report = LoadReport(matched=tuple(matched), missing=missing, unused=tuple(unused))
    return traverse_util.unflatten_dict({**flat, **loaded}), report


def _converted(key: str, array: np.ndarray, leaf: Any) -> Any:
    """``array`` in flax's layout and as a JAX array; ``leaf`` gives the shape it must have."""
    original = array.shape
    if array.ndim > 1:  # OIHW -> HWIO (depthwise O1HW -> HW1O), OI -> IO
        array = array.transpose(*range(2, array.ndim), 1, 0)
    if array.shape != leaf.shape:
        expected = leaf.shape
        if len(expected) > 1:  # shown as PyTorch would
            expected = (*expected[:-3:-1], *expected[:-2])
        raise UserError(
            f"{key} has shape {original} in the weights, the model needs {expected}: take weights "
            "of this architecture and number of classes, or remove the key to start it afresh"
        )
    return jnp.asarray(array.astype(np.promote_types(array.dtype, leaf.dtype)))


def _match(template: str, text: str) -> dict[str, str] | None:
    """The numbers that ``template``'s fields stand for in ``text``, or None."""
    match = _pattern(template).fullmatch(text)
    return match and match.groupdict()


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(template)))
