"""XLA's choice of a library for a forward pass."""

import os

import jax
import jax.numpy as jnp
import pytest

from dropclass_jax.ops import forward_compiler


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


@pytest.mark.parametrize(("cores", "expected"), [(1, [False, True]), (2, [False, False])])
def test_the_options_do_what_they_say(cores, expected, monkeypatch):
    if list(_by_ynnpack({})) != [True, True]:
        pytest.skip("XLA takes another library on this CPU")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cores))
    assert list(_by_ynnpack(forward_compiler.options())) == expected


def test_other_backends_get_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert forward_compiler.options() == {}
