"""Load configs from their files, and convert them to and from plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from dropclass_jax.errors import UserError, unknown
from dropclass_jax.experiment import defaults
from dropclass_jax.experiment.python_file import call


def load_config(spec: str) -> ConfigDict:
    """The config that ``--config=spec`` names: ``FILE`` or ``FILE:VARIANT``.

    Raises:
      UserError: the file is missing, does not run, is not a config, or does not know the variant;
        or its config has a key that no config has, or lacks one.
    """
    path, _, variant = spec.partition(":")
    config, _ = call(path, "get_config", "config file", *([variant] if variant else []))
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"config file {path}: get_config returns {type(config).__name__}, not a ConfigDict"
        )
    try:
        check_keys(config)
    except UserError as error:
        raise UserError(f"config file {path}: {error}") from None
    return config


def check_keys(config: ConfigDict) -> None:
    """Refuse a config that has other keys than the defaults: nothing would look at them.

    Sections for what a user names (``data.options``) may hold anything.

    Raises:
      UserError: names the first such key, and the one that it may stand for.
    """
    known = dict(flatten(defaults.get_config()))
    there = dict(flatten(config))
    free = tuple(f"{key}." for key, value in known.items() if is_section(value) and not value)
    for key, value in there.items():
        if key.startswith(free):
            continue
        if key not in known:
            raise UserError(unknown_key(key, known))
        if is_section(known[key]) != is_section(value):
            wanted = "a section" if is_section(known[key]) else "a value"
            raise UserError(f"config key {key!r} is {wanted}, not {value!r}")
    for key in known:
        if key not in there:
            raise UserError(
                f"config key {key!r} is missing; begin with "
                "dropclass_jax.experiment.defaults.get_config()"
            )


def unknown_key(key: str, known: Mapping[str, Any]) -> str:
    """The message on a key that a flat config does not have; it suggests the nearest one."""
    values = [key for key, value in known.items() if not is_section(value)]
    return unknown("config key", key, values, there_is="")


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
