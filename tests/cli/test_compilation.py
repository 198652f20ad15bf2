"""The second start compiles nothing, and nothing about the folder can stop a start."""

import json
import os
import subprocess
import sys

import jax
import pytest

from dropclass_jax.cli import compilation

# Counts what jax finds in its cache and what it does not, in a start that compiles one program.
START = """
import json, jax, jax.numpy as jnp
from dropclass_jax.cli import compilation
counts = {"cache_hits": 0, "cache_misses": 0}
def count(event, **_):
    if (name := event.rsplit("/", 1)[-1]) in counts:
        counts[name] += 1
jax.monitoring.register_event_listener(count)
folder = compilation.keep()
x = jax.jit(lambda x: jnp.linalg.inv(x @ x.T + jnp.eye(64)).sum())(jnp.ones((64, 64)))
print(json.dumps({"folder": str(folder or ""), "result": float(x), **counts}))
"""


def start(cache, **environment):
    """A fresh process that compiles; what it reports, once it is asked."""
    inherited = {k: v for k, v in os.environ.items() if "CACHE" not in k and k != "XLA_FLAGS"}
    environment = {**inherited, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cache), **environment}
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return subprocess.Popen(
        [sys.executable, "-c", START],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def report(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1]), errors


def test_the_second_start_compiles_nothing(tmp_path):
    """Nor do three that start at once, whether they find the first one's programs or race for them.

    A program that was cut short, as a kill leaves it, is compiled again.
    """
    racing = [report(process)[0] for process in [start(tmp_path) for _ in range(2)]]
    assert racing[0]["result"] == racing[1]["result"]
    assert racing[0]["folder"].startswith(str(tmp_path / "dropclass_jax" / "compiled"))
    second, _ = report(start(tmp_path))
    assert second["cache_misses"] == 0
    assert second["cache_hits"] > 0
    assert second["result"] == racing[0]["result"]

    programs = list(tmp_path.rglob("*-cache"))
    for program in programs:
        program.write_bytes(program.read_bytes()[:100])
    third, errors = report(start(tmp_path))
    assert third["result"] == second["result"]
    assert third["cache_hits"] == 0
    assert "Traceback" not in errors


def test_it_can_be_turned_off_and_moved(tmp_path):
    off, _ = report(start(tmp_path / "a", JAX_ENABLE_COMPILATION_CACHE="false"))
    assert off["folder"] == ""
    assert off["cache_misses"] == 0
    moved = str(tmp_path / "elsewhere")
    elsewhere, _ = report(start(tmp_path / "a", JAX_COMPILATION_CACHE_DIR=moved))
    assert elsewhere["folder"] == moved
    assert list((tmp_path / "elsewhere").iterdir())
    assert not (tmp_path / "a").exists()


@pytest.fixture
def unset(monkeypatch):
    """No folder for jax yet, and whatever a test sets is taken back."""
    before = jax.config.jax_compilation_cache_dir
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", None)
    yield monkeypatch
    jax.config.update("jax_compilation_cache_dir", before)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def test_a_home_that_cannot_be_written_costs_nothing_but_time(unset, tmp_path):
    (tmp_path / "file").touch()
    unset.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compilation.keep() is None
    unset.setenv("XDG_CACHE_HOME", str(tmp_path))
    unset.setattr(os, "access", lambda *_: False)  # who runs as root may write everywhere
    assert compilation.keep() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_home_is_found(unset, tmp_path):
    unset.delenv("XDG_CACHE_HOME", raising=False)
    unset.setenv("HOME", str(tmp_path))
    folder = compilation.keep()
    assert folder.is_relative_to(tmp_path / ".cache" / "dropclass_jax")
    assert folder.is_dir()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    # Another kind of CPU has a folder of its own.
    unset.setattr(compilation, "_processor", lambda: "other")
    jax.config.update("jax_compilation_cache_dir", None)
    assert compilation.keep() == folder.parent / "other"
