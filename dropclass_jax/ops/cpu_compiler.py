"""How XLA should compile a forward pass without a gradient."""

from __future__ import annotations

import os

import jax

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


def options() -> dict[str, str]:
    """Compiler options for the default backend, for ``jax.jit`` or ``Lowered.compile``.

    On a CPU, XLA gives products and convolutions to YNNPACK, which leaves a second core idle most
    of the time. With several cores both are left to Eigen, and on one the products alone, where
    YNNPACK is the slower. Training steps are faster with XLA's choice. Other backends get none.
    """
    if jax.default_backend() != "cpu":
        return {}
    alone = len(os.sched_getaffinity(0)) == 1
    return {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION" if alone else ""}
