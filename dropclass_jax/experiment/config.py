"""Load configs from their files, and convert them to and from plain values."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from dropclass_jax.errors import UserError
from dropclass_jax.experiment import defaults


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


def flatten(config: ConfigDict | Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``('data.dir', value)`` for every key of a config, its sections included."""
    for key, value in config.items():
        yield prefix + key, value
        if is_section(value):
            yield from flatten(value, f"{prefix}{key}.")


def is_section(value: Any) -> bool:
    """Whether a value of a config holds keys of its own."""
    return isinstance(value, (ConfigDict, Mapping))


def from_values(values: Mapping[str, Any]) -> ConfigDict:
    """A config of nested plain values; keys that are missing have their defaults.

    So a run that was made before a key existed can be read: by default a new key changes nothing.
    Sections for what a user names (``data.options``) are empty in the defaults, and stay.
    """
    config = ConfigDict(_tuples(values))
    _translate(config)
    _fill(config, defaults.get_config())
    return config


def _translate(config: ConfigDict) -> None:
    """Give keys of older runs their names of today."""
    settings = config.get("dropclass", {})
    if "draw_per_example" in settings:
        settings.draw_per = "example" if settings.draw_per_example else "batch"
        del settings.draw_per_example


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _fill(config: ConfigDict, defaults: ConfigDict) -> None:
    for key, value in defaults.items():
        if key not in config:
            config[key] = value
        elif isinstance(value, ConfigDict):
            _fill(config[key], value)
