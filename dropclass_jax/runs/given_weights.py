"""The class weights that a run was given in a file of the user's: its folder keeps a copy.

The config names the file alone, which may be edited afterwards. Continued with other weights a run
would be of neither, and a sweep would take an old run for one of the new weights.
"""

from __future__ import annotations

from pathlib import Path

from dropclass_jax.files import read_object

COPY = "class_weights.json"


def text(rule: str) -> str | None:
    """The content of the file that ``config.loss.class_weights`` names; None where it names none.

    Raises:
      OSError: it cannot be read.
    """
    return Path(rule).read_text(encoding="utf-8") if rule.endswith(".json") else None


def kept(workdir: Path) -> dict[str, float]:
    """The weights that a run was given, by class; empty where it was given none."""
    return read_object(workdir / COPY) or {}


def changes(workdir: Path, rule: str) -> list[str]:
    """What a file now says otherwise than when a run began, in a line at most.

    A run without a copy, and a file that is gone, cannot be compared: there is nothing to say.

    Args:
      workdir: the run's folder.
      rule: ``config.loss.class_weights``.
    """
    old, new = kept(workdir), read_object(Path(rule)) if rule.endswith(".json") else None
    if not old or new is None:
        return []
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if not changed:
        return []
    first, more = changed[0], f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    return [f"{rule} weighed {first!r} {old.get(first)}, now {new.get(first)}{more}"]
