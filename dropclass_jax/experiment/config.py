"""Load, flatten and serialise configs."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from dropclass_jax.errors import UserError


def load_config(spec: str) -> ConfigDict:
    """The config that ``--config=spec`` names: ``FILE`` or ``FILE:VARIANT``.

    Raises:
      UserError: the file is missing, is not a config, or does not know the variant.
    """
    path, _, variant = spec.partition(":")
    try:
        get_config = runpy.run_path(path)["get_config"]
    except OSError:
        raise UserError(f"config file {path} does not exist or cannot be read") from None
    except KeyError:
        raise UserError(f"config file {path} has no get_config function") from None
    return get_config(variant) if variant else get_config()


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``('data.dir', value)`` for every key of a config, its sections included."""
    for key, value in config.items():
        yield prefix + key, value
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")


def to_json(config: ConfigDict) -> str:
    """A config as JSON, keys in order."""
    return json.dumps(config.to_dict(), indent=2)


def from_json(text: str) -> ConfigDict:
    """The inverse of ``to_json``; tuples come back as tuples."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tuples(item) for key, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ConfigDict(tuples(json.loads(text)))
