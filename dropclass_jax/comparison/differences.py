"""What differs between the two sides of a comparison besides their scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dropclass_jax.errors import UserError
from dropclass_jax.experiment import config
from dropclass_jax.runs import given_weights, rundir


class Difference(NamedTuple):
    """One thing that is not the same on both sides.

    Attributes:
      name: ``config.optimizer.lr``, ``version of jax``, ``device``, ``command`` and the like.
      a: its value on the first side; of several runs all there are, with commas.
      b: on the second.
    """

    name: str
    a: str
    b: str


def between(
    a: Sequence[Path],
    b: Sequence[Path],
    metrics_a: Sequence[Mapping[str, Any]],
    metrics_b: Sequence[Mapping[str, Any]],
    heads: tuple[str, str],
) -> list[Difference]:
    """List what differs: heads, config, data, steps, versions, device, command.

    A run without a readable ``config.json`` has no config to differ in.

    Args:
      a: the folders of the first side's runs.
      b: of the second's.
      metrics_a: the content of their ``metrics.json``.
      metrics_b: likewise.
      heads: which head predicts on each side.
    """
    sides = [
        [facts(folder, content) for folder, content in zip(folders, metrics, strict=True)]
        for folders, metrics in ((a, metrics_a), (b, metrics_b))
    ]
    differences = [Difference("head", *heads)] if heads[0] != heads[1] else []
    for name in dict.fromkeys(name for side in sides for run in side for name in run):
        values = [sorted({run.get(name, "-") for run in side}) for side in sides]
        if values[0] != values[1]:
            differences.append(Difference(name, *(", ".join(side) for side in values)))
    return differences


def facts(folder: Path, metrics: Mapping[str, Any]) -> dict[str, str]:
    """What a run was made with, by name."""
    try:
        values = config.from_values(rundir.read_config(folder)).to_dict()
    except UserError:
        values = {}
    named = {
        f"config.{key}": _shown(value)
        for key, value in config.flatten(values)
        if not config.is_section(value)
    }
    if weights := given_weights.kept(Path(folder)):
        named["class weights"] = ", ".join(f"{name} {weights[name]}" for name in sorted(weights))
    if fingerprint := rundir.fingerprint(Path(folder)):
        named["fingerprint of the data"] = str(fingerprint)
    named["step"] = str(metrics["step"])
    pixels = sum(entry["train_pixels"] for entry in metrics["classes"])
    named["labelled pixels of training"] = str(pixels)
    named |= {
        f"version of {module}": str(version)
        for module, version in metrics.get("versions", {}).items()
    }
    named["device"] = str(metrics.get("device", "-"))
    # The folder always differs; what is set in a config that can be read is named above.
    unwanted = ("workdir", "config.") if values else ("workdir",)
    named["command"] = without(str(metrics.get("command", "-")), unwanted)
    return named


def without(command: str, unwanted: Sequence[str]) -> str:
    """A command without some of its flags, written ``--flag=value`` or ``--flag value``.

    >>> command = "python -m dropclass_jax.train --config=a.py --config.seed=1 --workdir runs/1 --x"
    >>> without(command, ["workdir", "config."])
    'python -m dropclass_jax.train --config=a.py --x'

    Args:
      command: as a shell reads it.
      unwanted: names of flags; one that ends with a dot stands for all that begin with it.
    """
    try:
        words = shlex.split(command)
    except ValueError:  # not by a shell's rules
        return command
    kept, awaiting = [], False
    for word in words:
        flag = word.startswith("-")
        name = word.lstrip("-").split("=")[0]
        found = flag and any(
            name.startswith(other) if other.endswith(".") else name == other for other in unwanted
        )
        if not found and (flag or not awaiting):
            kept.append(word)
        awaiting = found and "=" not in word  # the next word is its value, unless a flag
    return shlex.join(kept)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) and not value else str(value)
