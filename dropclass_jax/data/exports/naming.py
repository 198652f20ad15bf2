"""A ``classes.yaml`` beside an export: the export's classes in another order, or fewer of them.

    ignore: [sky]
    classes: [background, pothole, crack]

Names are those of the export, which stand for their values; ``value`` and ``color`` may be given as
in any ``classes.yaml``, and then the name is free. Every class of the export is a class or ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropclass_jax.data import classes, masks, strict_yaml
from dropclass_jax.data.classes import Classes
from dropclass_jax.data.files import File
from dropclass_jax.errors import UserError


def read(source: Path | File, export: Classes) -> Classes:
    """Read a ``classes.yaml`` by the names of an export.

    Raises:
      UserError: as ``classes.read``; at a name that the export does not have, or a class of it
        that is missing.
    """
    path, content = strict_yaml.name_of(source), strict_yaml.load(source)
    if isinstance(content, dict) and isinstance(content.get("classes"), list):
        entries = [_entry(path, entry, export) for entry in content["classes"]]
        ignore = content.get("ignore") or []
        ignore = [
            _value(name, export) for name in (ignore if isinstance(ignore, list) else [ignore])
        ]
        key = "value" if export.kind == "index" else "color"
        given = [entry.get(key) for entry in entries if isinstance(entry, Mapping)]
        ignore += [v for code in export.ignored if (v := _stored(code, export)) not in given]
        content = {**content, "masks": export.kind, "classes": entries, "ignore": ignore}
    named = classes.parse(path, content)
    for name, code in zip(export.names, export.codes, strict=True):
        if code not in (*named.codes, *named.ignored):
            raise UserError(
                f"{path} does not list {name!r}, a class of the export: add it, or put its name "
                "under ignore"
            )
    return named


def _entry(path: str, entry: Any, export: Classes) -> Any:
    """An entry of the list with its value."""
    own = entry if isinstance(entry, Mapping) else {"name": entry}
    key = "value" if export.kind == "index" else "color"
    if key in own or own.get("name") is None:
        return entry
    name = str(own["name"])
    if name not in export.names:
        raise UserError(
            f"{path}: the export has no class {name!r}: it has {', '.join(export.names)}"
        )
    color = list(export.colors[export.names.index(name)])
    return {"color": color, **own, key: _value(name, export)}


def _value(name: Any, export: Classes) -> Any:
    """What stands for a class in ``classes.yaml``, by its name; all else as it is."""
    if isinstance(name, str) and name in export.names:
        return _stored(export.codes[export.names.index(name)], export)
    return name


def _stored(code: int, export: Classes) -> Any:
    return code if export.kind == "index" else list(masks.unpack(code))
