"""A network of two convolutions, and the training command with it.

    python tests/tiny.py --config=configs/streets.py:tiny --workdir=RUN ...
    python tests/tiny.py predict --workdir=RUN ...

is ``python -m dropclass_jax.train``, or another command, that knows the model ``tiny``: whole runs
in seconds.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import flax.linen as nn
import jax
import optax

from dropclass_jax import checkpoint, experiment, models, rundir, state
from dropclass_jax.command import load_config
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.models.layers import ConvNorm, Layers


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
    "tiny": models.Backbone(lambda layers, output_stride: TinyBackbone(layers), head="last_map")
}

# A short run on small scenes, as flags.
SETTINGS = {
    "data.options.train": 12, "data.options.val": 5, "data.options.val_out": 5,
    "augment.crop": "(32,48)", "batch_size": 8, "total_steps": 12, "log_every": 2,
    "eval.every_steps": 6, "checkpoint.every_steps": 4,
}  # fmt: skip


def command(workdir: Path | str, prepared: Path | str, **settings: object) -> list[str]:
    """The command line of a run of ``SETTINGS``, some of them changed."""
    values = {**SETTINGS, "data.prepared_dir": prepared, **settings}
    return [
        *(sys.executable, __file__, "--config=configs/streets.py:tiny", f"--workdir={workdir}"),
        *(f"--config.{key}={value}" for key, value in values.items()),
    ]


def environment(devices: int = 1) -> dict[str, str]:
    """Of a process with so many CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}


def save_run(workdir: Path, info: DatasetInfo, **settings: object) -> Path:
    """A run's folder as training on data of these facts leaves it, but for the training."""
    config = load_config("configs/streets.py:tiny")
    config.update_from_flattened_dict({"augment.crop": (32, 48), **settings})
    rundir.claim(workdir, config, "data", info)
    network = experiment.model(config, info.num_classes)
    variables = state.init_variables(network, jax.random.key(3), (64, 64, 3))
    with checkpoint.manager(workdir) as checkpoints:
        checkpoint.save(checkpoints, state.from_variables(variables, optax.sgd(0.1)))
        checkpoint.finish(checkpoints)
    return workdir


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    models.HEADS.update(HEADS)
    models.BACKBONES.update(BACKBONES)
    name = "train" if sys.argv[1].startswith("-") else sys.argv.pop(1)
    runpy.run_module(f"dropclass_jax.{name}", run_name="__main__", alter_sys=True)
