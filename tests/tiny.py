"""A network of two convolutions, and the training command with it.

    python tests/tiny.py --config=configs/streets.py:tiny --workdir=RUN ...

is ``python -m dropclass_jax.train`` that knows the model ``tiny``: whole runs in seconds. With the
name of another command's module as the first argument it is that command.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import optax
import xla_flags
from ml_collections import ConfigDict

from dropclass_jax import models
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.experiment.config import load_config
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models.layers import ConvNorm, Layers
from dropclass_jax.models.variables import init_variables
from dropclass_jax.runs import checkpoint, rundir
from dropclass_jax.training import state


class TinyBackbone(nn.Module):
    """Two convolutions, stride 4: compiles in a second."""

    layers: Layers = Layers()

    @nn.compact
    def __call__(self, images, train):
        x = nn.relu(ConvNorm(self.layers, 8, 3, stride=2, name="conv1")(images, train))
        return [ConvNorm(self.layers, 12, 3, stride=2, name="conv2")(x, train)]  # of both signs


def last_map(maps, train):
    """The head that is none."""
    return maps[-1]


HEADS = {"last_map": lambda layers: last_map}
BACKBONES = {
    "tiny": models.Backbone(
        lambda layers, output_stride: TinyBackbone(layers), head="last_map", auxiliary=0
    )
}

# A short run on small scenes.
SETTINGS = {
    "data.options.train": 12, "data.options.val": 5, "data.options.val_out": 5,
    "augment.crop": (32, 48), "batch_size": 8, "total_steps": 12, "log_every": 2,
    "eval.every_steps": 6, "checkpoint.every_steps": 4,
}  # fmt: skip


def command(workdir: Path | str, prepared: Path | str, **settings: object) -> list[str]:
    """The command line of a run of ``SETTINGS``, some of them changed."""
    values = {**SETTINGS, "data.prepared_dir": prepared, **settings}
    return [
        *(sys.executable, __file__, "--config=configs/streets.py:tiny", f"--workdir={workdir}"),
        *(f"--config.{key}={value}" for key, value in values.items()),
    ]


WITHOUT_PAGE = "TINY_RUNS_WITHOUT_PAGE"  # set, the runs of this program end so


def environment(devices: int = 1, page: bool = False) -> dict[str, str]:
    """Of a process with so many CPU devices, whose runs end ``without_page`` unless asked."""
    own = {"XLA_FLAGS": xla_flags.flags(devices), WITHOUT_PAGE: "" if page else "1"}
    return {**os.environ, **own, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}


# What such runs may be of, where no data is needed.
INFO = DatasetInfo(
    "some",
    ("sky", "road", "grass", "wall"),
    ((0, 0, 255), (255, 0, 0), (0, 200, 0), (90, 90, 90)),
    train_pixels=(4, 3, 2, 1),
)


@contextlib.contextmanager
def known() -> Iterator[None]:
    """The model name ``tiny``, for as long as it lasts."""
    heads, backbones = models.HEADS, models.BACKBONES
    models.HEADS, models.BACKBONES = heads | HEADS, backbones | BACKBONES
    try:
        yield
    finally:
        models.HEADS, models.BACKBONES = heads, backbones


@contextlib.contextmanager
def without_page() -> Iterator[None]:
    """Runs end without ``report.html``, which is a third of what a tiny one takes."""
    with mock.patch("dropclass_jax.cli.run_report.write_report"):
        yield


def changed(config: ConfigDict, values: Mapping[str, object]) -> ConfigDict:
    """A copy of a config with other values, by their full keys."""
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict(values)
    return copy


def save_run(workdir: Path, info: DatasetInfo, **settings: object) -> Path:
    """A run's folder as training on data of these facts leaves it, but for the training."""
    config = load_config("configs/streets.py:tiny")
    config.update_from_flattened_dict({"augment.crop": (32, 48), **settings})
    rundir.claim(workdir, config.to_dict(), "data", info)
    network = create_network(config, info.num_classes)
    variables = init_variables(network, jax.random.key(3))
    with checkpoint.manager(workdir) as checkpoints:
        checkpoint.save(checkpoints, state.from_variables(variables, optax.sgd(0.1)))
        checkpoint.finish(checkpoints)
    return workdir


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    models.HEADS.update(HEADS)
    models.BACKBONES.update(BACKBONES)
    named = sys.argv[1:] and not sys.argv[1].startswith("-")
    module = sys.argv.pop(1) if named else "dropclass_jax.train"
    page = without_page() if os.environ.get(WITHOUT_PAGE) else contextlib.nullcontext()
    with page:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
