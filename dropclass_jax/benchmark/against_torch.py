"""Against PyTorch at its best, on the same device, in the same run, doing the same work.

PyTorch is tried in several ways (contiguous and channels last, ``torch.compile`` on a GPU), and the
fastest is what is compared with. Its networks are in ``torch_networks``.

On a CPU much depends on how the C library handles memory that comes and goes with every step. The
commands of this package have it keep what is freed (``allocator``); PyTorch's users usually do
not. Both sides are therefore measured with either setting, each in a process of its own (``side``),
by turns: with the same one, and each as its users have it. All processes may use the same cores,
with a thread for each.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from functools import partial
from importlib import metadata
from typing import Any

import jax

from dropclass_jax import cores
from dropclass_jax.benchmark import side, text, timing
from dropclass_jax.benchmark.case import VARIANTS, Case
from dropclass_jax.benchmark.section import Options, Skipped, keeping, say
from dropclass_jax.errors import first_line
from dropclass_jax.reporting.text_table import aligned

TITLE = "Against PyTorch"

KINDS = (*VARIANTS[:2], "forward")  # what is worth most first: there may be no time for all

Sides = Mapping[tuple[str, str], side.Side | side.Remote]  # of ``ours`` or ``torch``, an allocator

# What is compared: the allocator of our side and of PyTorch's.
PAIRS = {
    "both tuned": ("tuned", "tuned"),
    "both default": ("default", "default"),
    "each its own": ("tuned", "default"),
}


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
      ``cores``, how many both may use; for ``plain`` and ``dropclass`` (steps) and ``forward``:
      ``sides``, ``{"ours, tuned": ...}`` with summaries of ``seconds`` and ``cpu_seconds`` (of the
      process), the ``peak_bytes`` and the number of ``threads``, of PyTorch also the ``way`` it was
      the fastest and the ``tried`` ones (median seconds, or why one failed); ``pairs``, for
      ``PAIRS`` summaries of ``times_faster`` (PyTorch's seconds over ours) and
      ``cpu_times_faster``. Where there is no allocator to tune, on a GPU for one, that is ``both
      tuned``, which then says nothing. ``missing``, why there is nothing of the other kinds.

    Raises:
      Skipped: without PyTorch, or without a network to compare with.
      RuntimeError: all kinds are missing; it says why the first one is.
    """
    if not importlib.util.find_spec("torch"):
        raise Skipped("PyTorch is not installed: pip install torch (and torchvision)")
    tunable = jax.default_backend() == "cpu" and platform.libc_ver()[0] == "glibc"
    allocators = side.ALLOCATORS if tunable and not options.quick else side.ALLOCATORS[:1]
    result: dict[str, Any] = {"cores": len(cores.usable())}
    with keeping(result), contextlib.ExitStack() as stack:

        def start() -> Sides:
            return {
                (name, allocator): stack.enter_context(
                    side.started(name, case, allocator, options.torch_compile)
                )
                for allocator in allocators
                for name in ("torch", "ours")  # PyTorch first: it may have no such network
            }

        ready = _one_by_one(start) if options.at_once is None else _at_once(start, options.at_once)
        missing = {}
        for kind, prepared in ready:
            try:
                result[kind] = _compare(prepared(), options.repeats)
            except RuntimeError as error:
                missing[kind] = first_line(error)
                result["missing"] = missing
    if len(missing) == len(KINDS):
        raise RuntimeError(next(iter(missing.values())))
    return result


def _one_by_one(start: Callable[[], Sides]) -> Iterator[tuple[str, Callable[[], Sides]]]:
    """Each kind of work, and what prepares it: all in the same processes."""
    sides = start()

    def prepared(kind: str) -> Sides:
        for one in sides.values():
            one.prepare(kind)
        return sides

    for kind in KINDS:
        yield kind, partial(prepared, kind)


def _at_once(
    start: Callable[[], Sides], seconds: float
) -> Iterator[tuple[str, Callable[[], Sides]]]:
    """Each kind of work, prepared beside the others, each in processes of its own.

    What is not ready in time is given up, so that it does not disturb the timing of the rest.
    """
    of_kind = {kind: start() for kind in KINDS}
    with futures.ThreadPoolExecutor(sum(map(len, of_kind.values()))) as pool:
        asked = {
            (kind, key): pool.submit(one.prepare, kind)
            for kind, sides in of_kind.items()
            for key, one in sides.items()
        }
        late = set(asked.values())
        try:
            late = futures.wait(late, timeout=seconds).not_done
        finally:  # where the benchmark is stopped, too: the threads wait for their processes
            for (kind, key), future in asked.items():
                if future in late:
                    of_kind[kind][key].stop()
    say("all is prepared, or has had its time")

    def prepared(kind: str) -> Sides:
        mine = {key: asked[kind, key] for key in of_kind[kind]}
        if slow := [" ".join(key) for key, future in mine.items() if future in late]:
            raise RuntimeError(f"not ready after {seconds:.0f} s: {', '.join(slow)}")
        for future in mine.values():
            future.result()  # raises what went wrong
        return of_kind[kind]

    for kind in KINDS:
        yield kind, partial(prepared, kind)


def _compare(sides: Sides, repeats: int) -> dict[str, Any]:
    details = {key: one.choose() for key, one in sides.items()}
    spent = timing.spent_in_turns({key: one.spend for key, one in sides.items()}, repeats)
    wall = {key: [turn.wall for turn in turns] for key, turns in spent.items()}
    cpu = {key: [turn.cpu for turn in turns] for key, turns in spent.items()}
    return {
        "sides": {
            ", ".join(key): {
                "seconds": timing.summary(wall[key]),
                "cpu_seconds": timing.summary(cpu[key]),
                "peak_bytes": one.peak(),
                **details[key],
            }
            for key, one in sides.items()
        },
        "pairs": {
            name: {
                "times_faster": timing.ratio(wall["torch", theirs], wall["ours", ours]),
                "cpu_times_faster": timing.ratio(cpu["torch", theirs], cpu["ours", ours]),
            }
            for name, (ours, theirs) in PAIRS.items()
            if ("ours", ours) in sides and ("torch", theirs) in sides
        },
    }


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """A table for each network."""
    out = []
    for case, result in results:
        rows, threads = [], set()
        for kind in filter(result.__contains__, KINDS):
            for name, pair in result[kind]["pairs"].items():
                ours, theirs = (
                    result[kind]["sides"][f"{who}, {allocator}"]
                    for who, allocator in zip(("ours", "torch"), PAIRS[name], strict=True)
                )
                threads.add((ours["threads"], theirs["threads"]))
                rows.append(
                    [
                        kind if kind == "forward" else f"{kind} step",
                        name,
                        *(text.seconds(one["seconds"]["median"]) for one in (ours, theirs)),
                        text.ratio(pair["times_faster"]),
                        *(text.seconds(one["cpu_seconds"]["median"]) for one in (ours, theirs)),
                        text.ratio(pair["cpu_times_faster"]),
                        *(text.mebibytes(one["peak_bytes"]) for one in (ours, theirs)),
                        theirs["way"],
                    ]
                )
        header = ["", "allocator", "ours", "PyTorch", "times as fast", "ours, CPU", "PyTorch, CPU"]
        header += ["times as fast", "our peak", "its peak", "PyTorch's best"]
        out += ["", f"{case}; {result['cores']} cores{_threads(threads)}"]
        out += aligned(header, rows)
        out += [f"{kind}: {why}" for kind, why in result.get("missing", {}).items()]
    return out


def _threads(pairs: set[tuple[int | None, int | None]]) -> str:
    """``'; threads: ours 2, PyTorch 2'``; nothing on a GPU."""
    known = sorted(pair for pair in pairs if None not in pair)
    return "".join(f"; threads: ours {ours}, PyTorch {theirs}" for ours, theirs in known)
