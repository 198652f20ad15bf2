"""Against PyTorch at its best, on the same device, in the same run, doing the same work.

PyTorch is tried in several ways (contiguous and channels last, ``torch.compile`` on a GPU), and the
fastest is what is compared with. Its networks are in ``torch_networks``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from dropclass_jax.benchmark import peak_memory, text, timing
from dropclass_jax.benchmark.case import (
    IMAGE_MEAN,
    IMAGE_STD,
    VARIANTS,
    Case,
    compiled_step,
    network,
    new_state,
    random_batch,
    run_of,
)
from dropclass_jax.benchmark.section import Options, Skipped
from dropclass_jax.benchmark.timing import Run
from dropclass_jax.errors import first_line
from dropclass_jax.evaluation import inference
from dropclass_jax.ops.images import normalize
from dropclass_jax.parallel import pmap
from dropclass_jax.reporting.text_table import aligned

TITLE = "Against PyTorch"


def versions() -> dict[str, str]:
    """Of PyTorch and torchvision, where they are installed."""
    installed = {}
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name):
            installed[name] = metadata.version(name)
    return installed


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time the forward pass and the training steps of both.

    Returns:
      For ``forward``, ``plain`` and ``dropclass`` (steps): the ``way`` PyTorch was fastest, the
      ``tried`` ways (median seconds, or why one failed), summaries of ``ours`` and ``torch``
      (seconds) and of ``times_faster`` (PyTorch's over ours); for the steps ``peak_bytes`` of both.

    Raises:
      Skipped: without PyTorch, or without a network to compare with.
    """
    runs = _import_runs()
    on = runs.device()
    ways = runs.ways(on, options.torch_compile)
    kinds: dict[str, tuple[Callable[[], Run], Callable[[Any], Run]]] = {
        "forward": (lambda: predicting(case), lambda way: runs.predicting(case, way, on)),
        **{
            variant: (
                lambda variant=variant: run_of(case, variant),
                lambda way, variant=variant: runs.training(case, variant, way, on),
            )
            for variant in VARIANTS[:2]
        },
    }
    results = {}
    for kind, (make_ours, make_theirs) in kinds.items():
        best, theirs, tried = _fastest(make_theirs, ways)
        ours = make_ours()
        seconds = timing.in_turns({"ours": ours, "torch": theirs}, options.repeats)
        results[kind] = {
            "way": best,
            "tried": tried,
            **{name: timing.summary(values) for name, values in seconds.items()},
            "times_faster": timing.ratio(seconds["torch"], seconds["ours"]),
        }
        if kind != "forward":
            results[kind]["peak_bytes"] = {
                "ours": _our_peak(case, kind, ours),
                "torch": runs.peak_bytes(theirs, on),
            }
    return results


def _import_runs() -> Any:
    if not importlib.util.find_spec("torch"):
        raise Skipped("PyTorch is not installed: pip install torch (and torchvision)")
    try:
        return importlib.import_module("dropclass_jax.benchmark.torch_runs")
    except (ImportError, OSError) as error:  # OSError: a library of its own is missing
        raise Skipped(f"PyTorch cannot be imported: {first_line(error)}") from None


def _fastest(
    make: Callable[[Any], Run], ways: Sequence[Any]
) -> tuple[str, Run, dict[str, float | str]]:
    """The best of several ways, and what became of each."""
    runs, tried = {}, {}
    for way in ways:
        try:
            run = make(way)
            run(1)
        except Skipped:
            raise
        except Exception as error:  # torch.compile fails in many ways
            if way is ways[0]:
                raise
            tried[str(way)] = first_line(error)
        else:
            runs[str(way)] = run
    for way, seconds in timing.in_turns(runs, 2).items():
        tried[way] = timing.summary(seconds)["median"]
    best = min(runs, key=lambda way: tried[way])
    return best, runs[best], tried


def predicting(case: Case) -> Run:
    """Forward passes of the plain network, to a class for every pixel."""
    model, variables = network(case, "plain"), new_state(case, "plain").variables

    @jax.jit
    def predict(variables: Any, images: jax.Array) -> jax.Array:
        images = normalize(images, jnp.asarray(IMAGE_MEAN), jnp.asarray(IMAGE_STD))
        scores = inference.scores(inference.forward(model, variables), images)
        return inference.predictions(scores)["plain"]

    images = jax.device_put(random_batch(case)["image"])

    def run(calls: int) -> None:
        for _ in range(calls):
            result = predict(variables, images)
        jax.block_until_ready(result)

    return run


def _our_peak(case: Case, variant: str, run: Run) -> int | None:
    """As ``torch_runs.peak_bytes`` measures it."""
    if jax.default_backend() == "cpu":
        return peak_memory.peak_increase(lambda: run(1))
    return pmap.peak_bytes(compiled_step(case, variant).step)


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """The table."""
    out = []
    for case, result in results:
        rows = []
        for kind, one in result.items():
            peaks = one.get("peak_bytes", {})
            rows.append(
                [
                    kind if kind == "forward" else f"{kind} step",
                    text.seconds(one["ours"]["median"]),
                    text.seconds(one["torch"]["median"]),
                    text.ratio(one["times_faster"]),
                    text.mebibytes(peaks.get("ours")),
                    text.mebibytes(peaks.get("torch")),
                    one["way"],
                ]
            )
        header = ["", "ours", "PyTorch", "times as fast", "our peak", "its peak", "PyTorch's best"]
        out += ["", str(case), *aligned(header, rows)]
    return out
