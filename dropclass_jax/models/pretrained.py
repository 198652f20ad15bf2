"""Loading of pretrained weights into a model's variables, with a report on every tensor.

The origin of the weights is recognised by their keys: PyTorch state dicts of torchvision, timm, or
HRNet's or DropClass's authors, or our own leaves ``params/...`` and ``batch_stats/...``. A backbone
must be loaded completely. The parts after it may keep their initial values, as with ImageNet
weights; the report lists them.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dropclass_jax.errors import UserError
from dropclass_jax.models import mobilenet_v3
from dropclass_jax.models.torch_names import CLASSIFIERS, Path, strip_prefix, torch_keys

StateDict = Mapping[str, np.ndarray]

# Parts of checkpoints that do not belong to a backbone: ImageNet classifiers, heads, the state of
# losses. EfficientNet has a norm before its ImageNet classifier, "bn2" or "_bn1".
_NOT_BACKBONE = re.compile(
    r"(fc|_fc|classifier|_classifier|aux_classifier|conv_head|_conv_head|bn2|_bn1"
    r"|final_layer|incre_modules"
    r"|downsamp_modules|last_layer|clsdrop_\w+|cls_head|aux_head|ocr_\w+|conv3x3_ocr|loss|criterion)"
    r"\b|(params|batch_stats)/(?!backbone/)"
)

# In timm, MobileNetV3 ends with a stage that is a single convolution; EfficientNet does not.
_TIMM_MOBILENET_V3 = re.compile(r"blocks\.\d+\.0\.conv\.weight")
_TIMM_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What ``load_state_dict`` did with every key of the file and every leaf of the model.

    Attributes:
      naming: whose naming scheme the file uses.
      matched: keys that were loaded, as they are in the file.
      missing: ``collection/path`` of the leaves that keep their initial values.
      unused: keys that were not loaded (except ``num_batches_tracked``), including those of a
        classifier for another number of classes.
    """

    naming: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        line = f"{len(self.matched)} tensors loaded, in {self.naming} names"
        if self.missing:
            line += f"; start afresh: {_counted(path.split('/')[1] for path in self.missing)}"
        return line + self.leftover

    @property
    def leftover(self) -> str:
        """The unused tensors of the file, as the end of a sentence; empty if there are none."""
        parts = _counted(map(_first_word, self.unused))
        return f"; of no use here: {parts}" if parts else ""


def load_state_dict(
    variables: Mapping[str, Any], state_dict: StateDict
) -> tuple[dict[str, Any], LoadReport]:
    """Load weights into the variables of a model.

    Args:
      variables: ``{"params": ..., "batch_stats": ...}`` of the model; arrays or
        ``jax.ShapeDtypeStruct``. Leaves that are not loaded are returned unchanged.
      state_dict: ``{key: array}``: of PyTorch, with convolutions ``[out, in, kh, kw]`` and linear
        layers ``[out, in]``, or our own leaves, ``"params/backbone/..."``.

    Returns:
      Variables of the same structure, in the wider of the file's dtype and the model's (float64
      only if it is enabled in JAX), and a report on every tensor. The head, the auxiliary head, the
      classifiers and DropClass's refine block are each loaded completely or not at all; a
      classifier for another number of classes is not loaded.

    Raises:
      UserError: names the first tensor at fault, with its shape in the file or the model: its shape
        differs, it belongs to a backbone but not to the model's, it is missing, or it occurs twice.
    """
    flat = traverse_util.flatten_dict(variables)
    arrays = _in_our_form(state_dict)
    torch_names = torch_keys(variables)
    paths = {"/".join(path): path for path in flat} | torch_names
    keys: dict[Path, str] = {}
    unused = []
    for key in arrays:
        if key.endswith("num_batches_tracked"):
            continue
        path = paths.get(key if _is_ours(key) else strip_prefix(key))
        if path is None:
            unused.append(key)
        elif path in keys:
            raise UserError(
                f"{key} is in the weights twice, also as {keys[path]}: keep one of them"
            )
        else:
            keys[path] = key

    fresh = _fresh_parts(flat, keys, arrays)
    unused += [key for path, key in keys.items() if _part(path) in fresh]
    taken = {path: key for path, key in keys.items() if _part(path) not in fresh}
    # Shapes are checked before missing tensors: they give the more specific error.
    loaded = {path: _converted(key, arrays[key], flat[path]) for path, key in taken.items()}
    missing = [path for path in flat if path not in taken]
    _check_backbone(flat, missing, unused, arrays, torch_names)
    report = LoadReport(
        naming=_naming(arrays),
        matched=tuple(taken.values()),
        missing=tuple("/".join(path) for path in missing),
        unused=tuple(unused),
    )
    return traverse_util.unflatten_dict({**flat, **loaded}), report


def num_classes(state_dict: StateDict) -> int | None:
    """The number of classes of a state dict's segmentation classifier; None without one."""
    for key, array in _in_our_form(state_dict).items():
        if key == "params/classifier/kernel":
            return array.shape[-1]
        if strip_prefix(key).removesuffix(".weight") in CLASSIFIERS:
            return array.shape[0]
    return None


def _in_our_form(state_dict: StateDict) -> dict[str, np.ndarray]:
    """The state dict, with the tensors that our networks parameterise differently converted."""
    arrays = {key: np.asarray(array) for key, array in state_dict.items()}
    # torchvision's LR-ASPP adds up two classifiers; ours has one, of both inputs concatenated.
    lows = [key for key in arrays if key.endswith("classifier.low_classifier.weight")]
    for prefix in (key.removesuffix("low_classifier.weight") for key in lows):
        halves = [f"{prefix}{half}_classifier" for half in ("low", "high")]
        if all(f"{half}.{leaf}" in arrays for half in halves for leaf in ("weight", "bias")):
            weights, biases = (
                [arrays.pop(f"{half}.{leaf}") for half in halves] for leaf in ("weight", "bias")
            )
            arrays[f"{prefix}low_high.weight"] = np.concatenate(weights, axis=1)
            arrays[f"{prefix}low_high.bias"] = sum(biases)
    # timm's MobileNetV3 has another epsilon in its norms: rescale to make up for the difference.
    if any(_TIMM_MOBILENET_V3.fullmatch(strip_prefix(key)) for key in arrays):
        for key in [key for key in arrays if key.endswith(".running_var")]:
            scale, var = key.replace("running_var", "weight"), arrays[key]
            if scale in arrays:
                ratio = (var + mobilenet_v3.EPSILON) / (var + _TIMM_EPSILON)
                arrays[scale] = arrays[scale] * np.sqrt(ratio)
    return arrays


def _part(path: Path) -> str:
    """The part of the model that a leaf belongs to; a part is loaded completely or not at all."""
    return "/".join(path[1:3]) if path[1] == "auxiliary_head" else path[1]


def _fresh_parts(
    flat: Mapping[Path, Any], found: Mapping[Path, str], arrays: StateDict
) -> set[str]:
    fresh = set()
    parts: dict[str, list[Path]] = {}
    for path in flat:
        parts.setdefault(_part(path), []).append(path)
    for part, leaves in parts.items():
        if part == "backbone":
            continue
        lacking = [path for path in leaves if path not in found]
        if lacking and len(lacking) < len(leaves):
            raise UserError(
                f"the weights hold only a part of the model's {part}: they lack "
                f"{_shown(flat, lacking[0])}. Take weights of this head, or remove all of its keys"
            )
        if lacking:
            fresh.add(part)
        elif part.endswith("classifier"):
            files = (_in_our_layout(found[path], arrays[found[path]]) for path in leaves)
            if [array.shape for array in files] != [flat[path].shape for path in leaves]:
                fresh.add(part)
    if "head" in fresh:  # loaded weights of these parts do not suit a new head's features
        fresh |= {"classifier", "refine"} & parts.keys()
    return fresh


def _check_backbone(
    flat: Mapping[Path, Any],
    missing: Sequence[Path],
    unused: Sequence[str],
    arrays: StateDict,
    torch_names: Mapping[str, Path],
) -> None:
    """Raises ``UserError`` unless the file's backbone has exactly the tensors of the model's."""
    advice = "take weights of the model's own backbone"
    backbone = [path for path in flat if path[1] == "backbone"]
    lacking = [path for path in missing if path[1] == "backbone"]
    if len(lacking) == len(backbone) > 0:
        first = next(iter(arrays), None)
        holds = f"its first tensor is {first!r} {arrays[first].shape}" if first else "it is empty"
        raise UserError(f"the weights hold nothing of the model's backbone ({holds}): {advice}")
    for key in unused:
        if not _NOT_BACKBONE.match(strip_prefix(key)):
            raise UserError(
                f"{key} {arrays[key].shape} of the weights has no place in the model: {advice}"
            )
    if lacking:
        names = [key for key, path in torch_names.items() if path == lacking[0]]
        theirs = f", in PyTorch {' or '.join(names)}" if names else ""
        raise UserError(f"the weights lack {_shown(flat, lacking[0])}{theirs}: {advice}")


def _shown(flat: Mapping[Path, Any], path: Path) -> str:
    return f"{'/'.join(path)} {flat[path].shape}"


def _is_ours(key: str) -> bool:
    return key.startswith(("params/", "batch_stats/"))


def _in_our_layout(key: str, array: np.ndarray) -> np.ndarray:
    """PyTorch's OIHW to HWIO (depthwise O1HW to HW1O) and OI to IO; our own leaves unchanged."""
    if _is_ours(key) or array.ndim < 2:
        return array
    return array.transpose(*range(2, array.ndim), 1, 0)


def _converted(key: str, array: np.ndarray, leaf: Any) -> Any:
    """``array`` as a JAX array in our layout; ``UserError`` unless it has the shape of ``leaf``."""
    ours = _in_our_layout(key, array)
    if ours.shape != leaf.shape:
        expected = leaf.shape
        if not _is_ours(key) and len(expected) > 1:  # shown as PyTorch would
            expected = (*expected[:-3:-1], *expected[:-2])
        raise UserError(
            f"{key} has shape {array.shape} in the weights, the model needs {expected}: "
            "take weights of this architecture"
        )
    return jnp.asarray(ours.astype(np.promote_types(ours.dtype, leaf.dtype)))


def _naming(keys: Iterable[str]) -> str:
    """Whose naming scheme a file uses, for messages."""
    keys = list(keys)
    stripped = {strip_prefix(key) for key in keys}
    tells = (
        ("DropClass's", lambda: "clsdrop_conv1.weight" in stripped),
        ("HRNet's", lambda: any(key.startswith("stage2.") for key in stripped)),
        ("timm's", lambda: "conv_stem.weight" in stripped),
        ("EfficientNet-PyTorch's", lambda: "_conv_stem.weight" in stripped),
        ("torchvision's", lambda: any("backbone." in key or "features." in key for key in keys)),
        ("our own", lambda: any(map(_is_ours, keys))),
    )
    return next((name for name, tell in tells if tell()), "ResNet's")


def _first_word(key: str) -> str:
    return re.split(r"[./]", re.sub(r"^(params|batch_stats)/", "", strip_prefix(key)))[0]


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{word} ({count})" for word, count in Counter(words).items())
