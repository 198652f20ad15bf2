"""One self-contained HTML page per run: what was trained, how well it does, and where it fails.

    python -m dropclass_jax.report --workdir=RUN

reads `metrics.json` and, where they are there, `metrics.jsonl`, `config.json` and `samples.npz`
from the run's directory, and writes `report.html` beside them. Training writes the same page.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from dropclass_jax.cli import app
from dropclass_jax.cli.run_report import write_report
from dropclass_jax.errors import UserError


def main(argv: list[str]) -> None:
    """Write the report of `--workdir` and print where it is."""
    del argv
    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing: give the directory of a training run")
    workdir = Path(flags.FLAGS.workdir)
    print(write_report(workdir))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "directory of a finished run; report.html is put there")
    app.run(main)
