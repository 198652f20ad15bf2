"""Where weights come from: a path, an installed package or the Hugging Face hub.

``config.init.path`` and ``python -m dropclass_jax.convert`` take all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dropclass_jax import models
from dropclass_jax.errors import UserError, first_line
from dropclass_jax.models import weight_files
from dropclass_jax.models.normalization import Normalization

# As timm and others call a network's weights on the hub: without torch first.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class Source(NamedTuple):
    """Weights on this machine.

    Attributes:
      path: a file, or the folder of a run; whether it exists is for its reader to say.
      description: what the user named, what that resolved to and its checksum, for messages.
      normalization: of the images that the weights were trained on, where the source tells.
    """

    path: Path
    description: str
    normalization: Normalization | None = None


def find(spec: str, network: str = "") -> Source:
    """The weights that a user names, fetched where they are not here yet.

    Args:
      spec: a path; ``package:NAME``, the one file of weights that an installed Python package
        holds; ``hf:OWNER/NAME`` or ``hf:OWNER/NAME/FILE``, of the Hugging Face hub, kept in its own
        cache; or ``imagenet``, the network's customary weights from ImageNet, which are one of the
        two.
      network: its name.

    Raises:
      UserError: there is no such thing, or it cannot be fetched; and how to come by it.
    """
    asked = spec
    if spec == "imagenet":
        spec = models.BACKBONES[models.parts(network)[1]].imagenet
        if not spec:
            raise UserError(f"no ImageNet weights are known for {network}: name a file of them")
    scheme, colon, name = spec.partition(":")
    fetch = {"package": _in_package, "hf": _on_the_hub}.get(scheme) if colon else None
    if fetch is None:
        return Source(Path(spec).expanduser(), spec)
    path, normalization = fetch(name)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    description = spec if asked == spec else f"{asked}, which is {spec}"
    return Source(path, f"{description} ({path.name}, SHA-256 {checksum})", normalization)


def _in_package(name: str) -> tuple[Path, None]:
    """The one file of weights among a distribution's files; nothing of it is imported."""
    try:
        files = importlib.metadata.distribution(name).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):  # the latter: no name at all
        raise UserError(
            f"weights package:{name}: no such package is installed; try `pip install {name}`"
        ) from None
    suffixes = {*weight_files.TORCH_SUFFIXES, *weight_files.OUR_SUFFIXES}
    candidates = [file for file in files if file.suffix in suffixes]
    if len(candidates) != 1:
        raise UserError(
            f"weights package:{name}: the package is to hold one file of weights, and holds "
            f"{', '.join(map(str, candidates)) or 'none'}: give the path of a file"
        )
    path = Path(str(candidates[0].locate()))
    if not path.is_file():
        raise UserError(f"weights package:{name}: {path} is gone; install the package again")
    return path, None


def _on_the_hub(name: str) -> tuple[Path, Normalization | None]:
    """A file of a repository, and what its ``config.json`` says of the images, as timm's do."""
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository:
        raise UserError(f"weights hf:{name}: give hf:OWNER/NAME or hf:OWNER/NAME/FILE")
    repository = f"{owner}/{repository}"
    path = _fetched(repository, [file] if file else _HUB_FILES)
    if path is None:
        raise UserError(
            f"weights hf:{name}: {repository} holds no {file or ' or '.join(_HUB_FILES)}; "
            "name one of its files, as hf:OWNER/NAME/FILE"
        )
    return path, _declared(_fetched(repository, ["config.json"]))


def _fetched(repository: str, files: Sequence[str]) -> Path | None:
    """The first of some files that a repository of the hub has, in the hub's own cache.

    What was fetched once is taken as it is, without asking the hub for a newer one.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(
            f"weights hf:{repository} need huggingface_hub: `pip install huggingface_hub`, or "
            "fetch the file and give its path"
        ) from None
    for file in files:
        try:
            kept = huggingface_hub.try_to_load_from_cache(repository, file)
            if isinstance(kept, str):  # else None, or the note that there is no such file
                return Path(kept)
            with _without_warnings():
                return Path(huggingface_hub.hf_hub_download(repository, file))
        except errors.LocalEntryNotFoundError as error:
            raise UserError(
                f"weights hf:{repository}: the hub cannot be reached, and {file} is not in its "
                f"cache: fetch the file elsewhere and give its path ({first_line(error)})"
            ) from error
        except errors.EntryNotFoundError:
            continue
        except errors.GatedRepoError as error:
            raise UserError(
                f"weights hf:{repository}: its owner gives access on request; ask for it on the "
                f"hub and log in with `hf auth login` ({first_line(error)})"
            ) from error
        except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
            raise UserError(
                f"weights hf:{repository}: the hub has no such repository, or shows it only to "
                f"those who are logged in ({first_line(error)})"
            ) from error
        except (OSError, ValueError, RuntimeError) as error:  # a full disk, an answer that is none
            raise UserError(
                f"weights hf:{repository}: {file} cannot be fetched: {first_line(error)}"
            ) from error
    return None


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """huggingface_hub warns of every attempt of several; an error says all of it in the end."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _declared(config: Path | None) -> Normalization | None:
    """The mean and deviation of timm's ``pretrained_cfg``; None where there is none."""
    try:
        known = json.loads(config.read_text())["pretrained_cfg"] if config else {}
        mean, std = (tuple(map(float, known[name])) for name in ("mean", "std"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Normalization(mean, std) if len(mean) == len(std) == 3 else None
