"""Compiling a network, with what a CPU needs: the right library for products, a tidy heap."""

from __future__ import annotations

import jax

from dropclass_jax import allocator, cores

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


def forward_options() -> dict[str, str]:
    """Compiler options of a forward pass without a gradient, for the default backend.

    On a CPU, XLA gives products and convolutions to YNNPACK, which leaves a second core idle most
    of the time. With several cores both are left to Eigen, and on one the products alone, where
    YNNPACK is the slower.

    Returns:
      What ``jax.jit`` or ``Lowered.compile`` take; nothing for other backends.
    """
    if jax.default_backend() != "cpu":
        return {}
    alone = len(cores.usable()) == 1
    return {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION" if alone else ""}


def step_options() -> dict[str, str]:
    """Compiler options of a training step: the same with several cores, XLA's own on one."""
    return forward_options() if len(cores.usable()) > 1 else {}


def compile_forward(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile a forward pass, see ``forward_options``, and tidy up after the compiler."""
    return _compile(lowered, forward_options())


def compile_step(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile a training step, see ``step_options``, and tidy up after the compiler."""
    return _compile(lowered, step_options())


def _compile(lowered: jax.stages.Lowered, options: dict[str, str]) -> jax.stages.Compiled:
    compiled = lowered.compile(compiler_options=options)
    allocator.retire_fragments()
    return compiled
