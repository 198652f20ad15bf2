"""Against the hardware: how much of its arithmetic and of its memory traffic a step uses.

The roofline (Williams et al., 2009): a step takes at least its operations over the rate of a large
matrix product, and at least its traffic over the rate of a large copy. The larger of the two bounds
it. Both rates are measured in the same turns as the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.benchmark import text, timing
from dropclass_jax.benchmark.case import DTYPES, VARIANTS, Case, compiled_step, run_of
from dropclass_jax.benchmark.section import Options
from dropclass_jax.benchmark.timing import Run
from dropclass_jax.reporting.text_table import aligned

TITLE = "Against the hardware"

# Sides of the square matrices, and bytes of the array that is copied.
_CPU, _ACCELERATOR = (2048, 2**28), (8192, 2**30)


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time steps beside a matrix product and a copy.

    Returns:
      ``flops_per_second`` and ``bytes_per_second`` of the device (summaries); for each of
      ``variants`` summaries of the shares of both that its step reaches, its intensity (operations
      a byte), what bounds it, and the share of its time that this bound explains.
    """
    side, size = _CPU if jax.default_backend() == "cpu" else _ACCELERATOR
    runs = {"product": _product(side, case.dtype), "copy": _copy(size)}
    runs |= {variant: run_of(case, variant) for variant in VARIANTS[:2]}
    seconds = timing.in_turns(runs, options.repeats)
    product_rate = 2 * side**3 / np.asarray(seconds["product"])
    copy_rate = 2 * size / np.asarray(seconds["copy"])

    variants = {}
    for variant in VARIANTS[:2]:
        program = compiled_step(case, variant)
        kernels = program.kernels
        moved, spent = sum(k.bytes for k in kernels), np.asarray(seconds[variant])
        arithmetic = program.flops / product_rate / spent
        traffic = moved / copy_rate / spent
        variants[variant] = {
            "flops": program.flops,
            "moved_bytes": moved,
            "kernels": sum(k.times for k in kernels),
            "seconds": timing.summary(spent.tolist()),
            "arithmetic_share": timing.summary(arithmetic.tolist()),
            "traffic_share": timing.summary(traffic.tolist()),
            "flops_per_byte": program.flops / moved,
            "bound": "arithmetic" if np.median(arithmetic) > np.median(traffic) else "traffic",
        }
    return {
        "flops_per_second": timing.summary(product_rate.tolist()),
        "bytes_per_second": timing.summary(copy_rate.tolist()),
        "variants": variants,
    }


def _product(side: int, dtype: str) -> Run:
    """A product of two square matrices at the precision that the networks' convolutions have."""
    x = jnp.full((side, side), 1 / side, DTYPES[dtype])
    multiply = jax.jit(lambda a, b: a @ b)

    def run(calls: int) -> None:
        result = x
        for _ in range(calls):
            result = multiply(result, x)
        jax.block_until_ready(result)

    return run


def _copy(size: int) -> Run:
    """As many bytes read and as many written."""
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros(size // 4, jnp.float32)

    def run(calls: int) -> None:
        nonlocal x
        for _ in range(calls):
            x = add(x)
        jax.block_until_ready(x)

    return run


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """The table."""
    out = []
    for case, result in results:
        product, copy = result["flops_per_second"], result["bytes_per_second"]
        balance = product["median"] / copy["median"]
        out += [
            "",
            f"{case}: a matrix product reaches {product['median'] / 1e12:.3g} TFLOP/s, a copy "
            f"{copy['median'] / 1e9:.3g} GB/s: {balance:.0f} operations a byte",
        ]
        header = ["", "step", "of the product's rate", "of the copy's", "operations a byte"]
        rows = [
            [
                name,
                text.seconds(one["seconds"]["median"]),
                text.percent(one["arithmetic_share"]["median"]),
                text.percent(one["traffic_share"]["median"]),
                f"{one['flops_per_byte']:.1f}",
                one["bound"],
                str(one["kernels"]),
            ]
            for name, one in result["variants"].items()
        ]
        out += aligned([*header, "bound by", "kernels"], rows)
    return out
