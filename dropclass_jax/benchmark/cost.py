"""DropClass over plain, exactly: operations and memory of the compiled step, which does not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax.benchmark import aims, flops, text
from dropclass_jax.benchmark.breakdown import breakdown
from dropclass_jax.benchmark.case import VARIANTS, Case, compiled_step
from dropclass_jax.benchmark.section import Options
from dropclass_jax.parallel import pmap
from dropclass_jax.reporting.text_table import aligned

TITLE = "Cost of a training step, exact: work, temporary memory and memory traffic"


_PLACES = 10


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Compile the variants of a step and read what they need.

    Returns:
      ``variants``: a dict each with ``flops`` (counted as traced) and how many of them are
      ``products``, ``xla_flops`` (of the compiled program, bodies of loops once),
      ``temporary_bytes``, ``peak_bytes`` and ``moved_bytes``; ``places``: what of the step with
      DropClass is for what; and ``aims``.
    """
    variants = {}
    for variant in VARIANTS[:2] if options.quick else VARIANTS:
        program = compiled_step(case, variant)
        variants[variant] = {
            "flops": program.flops,
            "products": flops.total(work for work in program.work if work.is_product),
            "xla_flops": program.step.cost_analysis()["flops"],
            "temporary_bytes": program.step.memory_analysis().temp_size_in_bytes,
            "peak_bytes": pmap.peak_bytes(program.step),
            "moved_bytes": sum(kernel.bytes for kernel in program.kernels),
        }
    return {
        "variants": variants,
        "places": breakdown(compiled_step(case, "dropclass")),
        "aims": {
            name: aims.judged(name, variants["dropclass"][name] / variants["plain"][name])
            for name in ("flops", "temporary_bytes")
        },
    }


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """The tables, and the aims."""
    out = []
    for case, result in results:
        plain = result["variants"]["plain"]
        rows = [
            [
                name,
                f"{one['flops'] / 1e9:.1f}",
                f"{one['flops'] / plain['flops']:.2f}",
                f"{one['products'] / 1e9:.1f}",
                text.mebibytes(one["temporary_bytes"]),
                f"{one['temporary_bytes'] / plain['temporary_bytes']:.2f}",
                f"{one['moved_bytes'] / 1e9:.2f} GB",
                f"{one['moved_bytes'] / plain['moved_bytes']:.2f}",
            ]
            for name, one in result["variants"].items()
        ]
        header = ["", "GFLOP", "x plain", "products", "temporary", "x plain", "moved", "x plain"]
        out += ["", str(case), *aligned(header, rows)]
        out += [aims.line(name, aim) for name, aim in result["aims"].items()]
        more = result["variants"]["dropclass"]["products"] - plain["products"]
        out.append(
            f"its products alone (the C-to-C convolution, the classifier) are "
            f"{text.times(1 + more / plain['flops'])}"
        )
        ours = result["variants"]["dropclass"]
        top = [
            [
                place["place"],
                f"{place['moved_bytes'] / 1e9:.2f} GB",
                text.percent(place["moved_bytes"] / ours["moved_bytes"]),
                f"{place['flops'] / 1e9:.1f}",
                text.percent(place["flops"] / ours["flops"]),
                str(place["kernels"]),
            ]
            for place in result["places"][:_PLACES]
        ]
        header = ["a step with DropClass", "moved", "share", "GFLOP", "share", "kernels"]
        out += ["", *aligned(header, top)]
    return out
