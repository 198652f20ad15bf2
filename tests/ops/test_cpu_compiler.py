"""XLA's choice of a library for a network on a CPU."""

import jax
import jax.numpy as jnp
import pytest

from dropclass_jax import allocator, cores
from dropclass_jax.ops import cpu_compiler


def _by_ynnpack(compiler_options):
    """Whether YNNPACK computes a product, and whether a convolution."""
    image, matrix = jax.ShapeDtypeStruct((1, 64, 64, 32), jnp.float32), jnp.ones((32, 32))
    kernel = jnp.ones((3, 3, 32, 32))

    def convolution(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    for function in (lambda x: x @ matrix, convolution):
        program = jax.jit(function).lower(image).compile(compiler_options=compiler_options)
        yield "ynn_fusion" in program.as_text()


@pytest.mark.parametrize(
    ("usable", "forward", "step"),
    [([0], [False, True], [True, True]), ([0, 1], [False, False], [False, False])],
)
def test_the_options_do_what_they_say(usable, forward, step, monkeypatch):
    if list(_by_ynnpack({})) != [True, True]:
        pytest.skip("XLA takes another library on this CPU")
    monkeypatch.setattr(cores, "usable", lambda: usable)
    assert list(_by_ynnpack(cpu_compiler.forward_options())) == forward
    assert list(_by_ynnpack(cpu_compiler.step_options())) == step


def test_other_backends_get_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert cpu_compiler.forward_options() == {}
    assert cpu_compiler.step_options() == {}


@pytest.mark.parametrize("compiles", [cpu_compiler.compile_forward, cpu_compiler.compile_step])
def test_what_the_compiler_leaves_behind_is_retired(compiles, monkeypatch):
    calls = []
    monkeypatch.setattr(allocator, "retire_fragments", lambda: calls.append("retired"))
    compiled = compiles(jax.jit(lambda x: x + 1).lower(jnp.ones(3)))
    assert calls == ["retired"]
    assert compiled(jnp.ones(3)).tolist() == [2, 2, 2]
