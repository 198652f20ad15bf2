"""Time from the start of a process to the end of its first step, cold and from the cache.

Each start is a fresh process with a compilation cache of the benchmark's own: Python, imports,
parameters, tracing, compiling, one step. No data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from dropclass_jax.benchmark import fresh_process, text, timing
from dropclass_jax.benchmark.case import Case
from dropclass_jax.benchmark.section import Options
from dropclass_jax.cli import compilation
from dropclass_jax.reporting.text_table import aligned

TITLE = "Start to first step, with DropClass"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Start once with an empty cache, then with what that left.

    Returns:
      ``{"cold" | "cached": {"first_step_seconds": summary, "compile_seconds": summary}}``.
    """
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": str(compilation.MIN_SECONDS),
        }
        for name, starts in {"cold": 1, "cached": 1 if options.quick else 2}.items():
            answers = [
                fresh_process.ask(case, "dropclass", environment=environment) for _ in range(starts)
            ]
            results[name] = {
                key: timing.summary([answer[key] for answer in answers])
                for key in ("first_step_seconds", "compile_seconds")
            }
    return results


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """A row for each network."""
    header = ["", "cold", "of it compiling", "cached", "of it loading"]
    rows = [
        [
            str(case),
            *(
                text.seconds(result[name][key]["median"])
                for name in ("cold", "cached")
                for key in ("first_step_seconds", "compile_seconds")
            ),
        ]
        for case, result in results
    ]
    return ["", *aligned(header, rows)]
