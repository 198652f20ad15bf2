"""Files of weights: read whatever a user has, write what needs no torch to read."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.errors import UserError, first_line
from dropclass_jax.files import atomic

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
OUR_SUFFIXES = (".npz", ".safetensors")
_CLASSES = "classes"  # the name of their list in our files

# Under what training scripts save the state dict, the average of the parameters last.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")


_SAFETENSORS_TYPES = (
    *("F64", "F32", "F16", "BF16"),
    *("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"),
)

# What zipfile and NumPy raise at a file that is no archive of arrays, is damaged, or lies.
_NOT_NPZ = (
    *(ValueError, TypeError, EOFError, OSError, MemoryError, OverflowError, RecursionError),
    *(RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file, by name.

    Args:
      path: ``.safetensors``, ``.npz``, a PyTorch file (``.pth``, ``.pt``, ``.bin``, ``.ckpt``,
        ``.tar``: needs torch, and is read without running any code in it).

    Returns:
      ``{name: array}``: PyTorch's keys, or our own leaves ``params/...`` and ``batch_stats/...``.

    Raises:
      UserError: names the file and what is wrong with it.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"weights {path} do not exist")
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    readers |= dict.fromkeys(TORCH_SUFFIXES, _read_torch)
    if path.suffix not in readers:
        raise UserError(f"weights {path} are none of {', '.join(readers)}, nor a run's folder")
    try:
        arrays = readers[path.suffix](path)
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error}") from error
    if not arrays:
        raise UserError(f"weights {path} hold no arrays")
    return arrays


def write(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], classes: Sequence[str] | None = None
) -> None:
    """Write tensors as ``.npz`` or ``.safetensors``, whole or not at all.

    Args:
      path: the file.
      arrays: the tensors by name.
      classes: what the classifier among them tells apart, where that is known.

    Raises:
      UserError: another suffix, or a file that cannot be written.
    """
    path = Path(path).expanduser()
    check_writable(path)
    try:
        with atomic(path) as file:
            if path.suffix == ".npz":
                np.savez(file, **arrays, **({} if classes is None else {_CLASSES: classes}))
            else:
                from safetensors.numpy import save

                about = None if classes is None else {_CLASSES: json.dumps(list(classes))}
                file.write(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, about))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error


def read_classes(path: str | os.PathLike) -> tuple[str, ...] | None:
    """The classes that ``write`` was given with the tensors; None where none are told.

    Args:
      path: a file that ``read`` has read.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            found = file.get(_CLASSES)
        return tuple(map(str, found)) if _is_classes(_CLASSES, found) else None
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "numpy") as file, contextlib.suppress(ValueError, TypeError, KeyError):
            return tuple(map(str, json.loads((file.metadata() or {})[_CLASSES])))
    return None


def check_writable(path: Path) -> None:
    """Raise ``UserError`` unless ``write`` knows the suffix and the folder is there."""
    if path.suffix not in OUR_SUFFIXES:
        raise UserError(f"{path}: weights are written as {' or '.join(OUR_SUFFIXES)}; choose one")
    if not path.absolute().parent.is_dir():
        raise UserError(f"the folder of {path} does not exist")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        zipfile.ZipFile(path).close()  # NumPy takes any other file for a pickle or a single array
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: array for key, array in file.items() if not _is_classes(key, array)}
    except _NOT_NPZ as error:
        raise UserError(
            f"weights {path} are no whole .npz file of plain arrays: {first_line(error)}"
        ) from error
    for key, array in arrays.items():
        if getattr(array, "dtype", None) == np.dtype("V2"):  # what NumPy makes of bfloat16
            arrays[key] = array.view(jnp.bfloat16)
        elif not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            held = getattr(array, "dtype", "no array")
            raise UserError(f"weights {path}: {key!r} is {held}: want arrays of real numbers")
    return arrays


def _is_classes(key: str, array: Any) -> bool:
    return key == _CLASSES and isinstance(array, np.ndarray) and array.dtype.kind == "U"


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open
    from safetensors.flax import load_file  # the NumPy reader has no bfloat16

    try:
        with safe_open(path, "numpy") as file:
            types = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        for key, held in types.items():
            if held not in _SAFETENSORS_TYPES:
                raise UserError(
                    f"weights {path}: {key!r} is {held}: want {', '.join(_SAFETENSORS_TYPES)}"
                )
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            return {key: np.asarray(array) for key, array in load_file(path).items()}
    except (SafetensorError, MemoryError) as error:
        raise UserError(
            f"weights {path} are no whole .safetensors file: {first_line(error)}"
        ) from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"reading {path} needs PyTorch: `pip install torch` (a build for CPUs will do), or "
            "where it is installed make a file that does not: python -m dropclass_jax.convert"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"weights {path} hold more than tensors, which would mean to run code from the file: "
            f"save the network's state_dict() alone ({first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise UserError(f"weights {path} are no whole PyTorch file: {first_line(error)}") from error
    try:
        tensors = _state_dict(content)
    except RecursionError:  # a mapping that holds itself
        tensors = {}
    if not tensors:
        raise UserError(
            f"weights {path} hold no state dict, at the top or under {', '.join(_WRAPPERS)}"
        )
    types = (torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.bool)
    types += (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    for key, tensor in tensors.items():
        where = f"weights {path}: {key!r}"
        if tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta:
            kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else tensor.layout
            raise UserError(f"{where} is a {kind} tensor: save plain, dense ones")
        if tensor.dtype not in types:
            raise UserError(f"{where} is {tensor.dtype}: save it as float32, float16 or bfloat16")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UserError(
                f"{where} of shape {tuple(tensor.shape)} repeats fewer values, which are all that "
                "the file holds: save a contiguous() copy"
            )
    # bfloat16 is not NumPy's.
    wide = lambda x: x.float() if x.dtype == torch.bfloat16 else x  # noqa: E731
    return {key: wide(tensor.detach()).numpy() for key, tensor in tensors.items()}


def _state_dict(content: Any) -> dict[str, Any]:
    """The tensors of what a PyTorch file holds, wrapped as training scripts do, or nothing."""
    if not isinstance(content, Mapping):
        return {}
    for name in _WRAPPERS:
        if isinstance(content.get(name), Mapping):
            return _state_dict(content[name])
    return {str(key): value for key, value in content.items() if hasattr(value, "detach")}
