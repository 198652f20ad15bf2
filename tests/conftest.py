"""Eight devices on the CPU, one compilation cache for every process, and the tiny network."""

import os

# Before jax is imported anywhere.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import pytest
from launch_world import World
from tiny import BACKBONES, HEADS, TinyBackbone, last_map

from dropclass_jax import models
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.segmenter import Segmenter


@pytest.fixture(autouse=True, scope="session")
def shared_compilations(tmp_path_factory):
    """What one test compiles, another test's subprocess need not; gone after the session."""
    folder = str(tmp_path_factory.mktemp("compilations"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


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
    monkeypatch.setattr(models, "HEADS", models.HEADS | HEADS)
    monkeypatch.setattr(models, "BACKBONES", models.BACKBONES | BACKBONES)


@pytest.fixture
def world(tmp_path):
    """The project's scripts among stand-ins for all that they call."""
    created = World(tmp_path)
    yield created
    created.close()
