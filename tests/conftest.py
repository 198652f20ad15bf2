"""Eight devices on the CPU, one compilation cache for every process, and the tiny network."""

import os

# Before jax is imported anywhere.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import flax.linen as nn
import jax
import pytest

from dropclass_jax import models
from dropclass_jax.models.layers import ConvNorm, Layers
from dropclass_jax.models.segmenter import Segmenter


@pytest.fixture(autouse=True, scope="session")
def shared_compilations(tmp_path_factory):
    """What one test compiles, another test's subprocess need not; gone after the session."""
    folder = str(tmp_path_factory.mktemp("compilations"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


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


@pytest.fixture
def tiny():
    """``tiny(num_classes, **settings)``: a Segmenter on two convolutions."""

    def create(num_classes, *, axis_name=None, momentum=0.9, layers=None, **settings):
        layers = Layers(axis_name=axis_name, momentum=momentum, **(layers or {}))
        return Segmenter(TinyBackbone(layers), last_map, num_classes, layers=layers, **settings)

    return create


@pytest.fixture
def named_tiny(monkeypatch):
    """The model name ``tiny``, for configs and commands."""
    monkeypatch.setitem(models.HEADS, "last_map", lambda layers: last_map)
    create = lambda layers, output_stride: TinyBackbone(layers)  # noqa: E731
    monkeypatch.setitem(models.BACKBONES, "tiny", models.Backbone(create, head="last_map"))
