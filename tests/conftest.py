"""Eight devices on the CPU, one compilation cache for every process, and the tiny network."""

import os

import xla_flags

# Before jax is imported anywhere.
os.environ.setdefault("XLA_FLAGS", xla_flags.flags(devices=8))

import jax
import pytest
from launch_world import World
from tiny import INFO, SETTINGS, TinyBackbone, known, last_map, save_run, without_page

from dropclass_jax import train
from dropclass_jax.experiment.config import load_config
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.segmenter import Segmenter
from dropclass_jax.runs import trained_network


@pytest.fixture(autouse=True, scope="session")
def shared_compilations(tmp_path_factory):
    """Share what one test compiles with the others' subprocesses.

    Gone after the session, unless ``JAX_COMPILATION_CACHE_DIR`` names a folder to keep it in.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("c"))
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
def named_tiny():
    """The model name ``tiny``, for configs and commands."""
    with known():
        yield


@pytest.fixture
def no_page():
    """Runs end without ``report.html``, for tests that do not look at it."""
    with without_page():
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of a finished DropClass run of the tiny network; copy it to write into it."""
    folder = tmp_path_factory.mktemp("tiny")
    config = load_config("configs/streets.py:tiny")
    config.update_from_flattened_dict({**SETTINGS, "data.prepared_dir": str(folder / "prepared")})
    with known():
        assert train.train(config, folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """A DropClass network of the tiny kind, of ``tiny.INFO``, out of the folder of its run."""
    with known():
        return trained_network.load(save_run(tmp_path_factory.mktemp("untrained") / "run", INFO))


@pytest.fixture
def world(tmp_path):
    """The project's scripts among stand-ins for all that they call."""
    created = World(tmp_path)
    yield created
    created.close()
