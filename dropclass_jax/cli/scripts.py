"""The installed commands: ``dropclass-train`` is ``python -m dropclass_jax.train``, and so on.

``pyproject.toml`` names each of them. A command is run as the main module, so that its flags, its
help and the command line that a run records are the same either way.
"""

from __future__ import annotations

import runpy
from functools import partial


def _run(module: str) -> None:
    runpy.run_module(f"dropclass_jax.{module}", run_name="__main__", alter_sys=True)


ablate = partial(_run, "ablate")
analyze = partial(_run, "analyze")
benchmark = partial(_run, "benchmark")
compare = partial(_run, "compare")
convert = partial(_run, "convert")
data = partial(_run, "data")
evaluate = partial(_run, "evaluate")
export = partial(_run, "export")
models = partial(_run, "models")
predict = partial(_run, "predict")
report = partial(_run, "report")
train = partial(_run, "train")
