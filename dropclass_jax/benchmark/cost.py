"""DropClass over plain, exactly: operations and memory of the compiled step, which does not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax import parallel
from dropclass_jax.benchmark import aims, hlo, text
from dropclass_jax.benchmark.case import VARIANTS, Case, compiled_step
from dropclass_jax.benchmark.section import Options

TITLE = "Cost of a training step, exact: work, temporary memory and memory traffic"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Compile the variants of a step and read what they need.

    Returns:
      ``variants``: a dict each with ``flops`` (counted as traced, by kind), ``xla_flops`` (of the
      compiled program, bodies of loops once), ``temporary_bytes``, ``peak_bytes`` and
      ``moved_bytes``; and ``aims``.
    """
    found = {}
    for variant in VARIANTS[:2] if options.quick else VARIANTS:
        program = compiled_step(case, variant)
        found[variant] = {
            "flops": {**program.flops._asdict(), "total": program.flops.total},
            "xla_flops": program.step.cost_analysis()["flops"],
            "temporary_bytes": program.step.memory_analysis().temp_size_in_bytes,
            "peak_bytes": parallel.peak_bytes(program.step),
            "moved_bytes": sum(k.bytes for k in hlo.kernels(program.step.as_text())),
        }
    plain, ours = found["plain"], found["dropclass"]
    ratios = {
        "flops": ours["flops"]["total"] / plain["flops"]["total"],
        "temporary_bytes": ours["temporary_bytes"] / plain["temporary_bytes"],
    }
    return {
        "variants": found,
        "aims": {name: aims.judged(name, ratio) for name, ratio in ratios.items()},
    }


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """The table, and the aims."""
    header = ["", "GFLOP", "x plain", "convolutions", "resizing", "temporary", "x plain"]
    out = []
    for case, result in results:
        plain = result["variants"]["plain"]
        rows = [
            [
                name,
                f"{one['flops']['total'] / 1e9:.1f}",
                f"{one['flops']['total'] / plain['flops']['total']:.2f}",
                f"{one['flops']['convolutions'] / 1e9:.1f}",
                f"{one['flops']['resizing'] / 1e9:.1f}",
                text.mebibytes(one["temporary_bytes"]),
                f"{one['temporary_bytes'] / plain['temporary_bytes']:.2f}",
                f"{one['moved_bytes'] / 1e9:.2f} GB",
                f"{one['moved_bytes'] / plain['moved_bytes']:.2f}",
            ]
            for name, one in result["variants"].items()
        ]
        out += ["", str(case), *text.table([*header, "moved", "x plain"], rows)]
        out += [aims.line(name, found) for name, found in result["aims"].items()]
    return out
