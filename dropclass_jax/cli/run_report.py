"""Write the reports of a run into its folder: ``metrics.csv`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropclass_jax.files import write_text
from dropclass_jax.reporting import table
from dropclass_jax.reporting.run_page import run_page
from dropclass_jax.runs import rundir
from dropclass_jax.runs.results import read_recorded


def write_report(workdir: Path) -> Path:
    """Write a run's ``report.html`` and return its path.

    Raises:
      UserError: the run's ``metrics.json`` is missing, damaged or without results of whole images,
        or its folder cannot be written.
    """
    path = workdir / "report.html"
    page = run_page(*read_recorded(workdir))
    with rundir.writing(workdir):
        write_text(path, page)
    return path


def write_reports(workdir: Path, metrics: Mapping[str, Any]) -> None:
    """Write ``metrics.csv`` and, where there are results of whole images, ``report.html``.

    Args:
      workdir: the run's folder.
      metrics: the content of its ``metrics.json``.
    """
    table.write_csv(workdir / "metrics.csv", metrics)
    if metrics["results"]:
        write_report(workdir)
