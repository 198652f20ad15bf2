"""One side of the comparison with PyTorch, in a process of its own.

    python -m dropclass_jax.benchmark.side '{"name": "torch", "case": {...}, "allocator": "tuned"}'

A process each, so that either side has its own heap, set up as it is measured: ``tuned``, as the
package's commands set it up (``allocator``), or ``default``, as the C library does. Requests
come on stdin and answers go to stdout, a line of JSON each: ``["method", argument, ...]`` of
``Side``, and ``{"result": ...}``, or ``skipped`` or ``error`` with a line of text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dropclass_jax import allocator
from dropclass_jax.benchmark import text, timing
from dropclass_jax.benchmark.case import Case
from dropclass_jax.benchmark.section import Skipped, Work
from dropclass_jax.cli import compilation
from dropclass_jax.errors import first_line

COMMAND = (sys.executable, "-m", "dropclass_jax.benchmark.side")
ALLOCATORS = ("tuned", "default")


class Side:
    """Ours or PyTorch's.

    Args:
      prepare: from the kind of work (``forward`` or a variant of a step) to a function that gives
        the work, and may time what there is to choose from.
    """

    def __init__(self, prepare: Callable[[str], Callable[[], Work]]) -> None:
        self._prepare = prepare
        self._prepared: Callable[[], Work] | None = None
        self._work: Work | None = None

    def prepare(self, kind: str) -> None:
        """Compile and warm up some work; others may do so at the same time."""
        self._prepared = self._work = None  # frees the memory of what was before
        self._prepared = self._prepare(kind)

    def choose(self) -> dict[str, Any]:
        """Settle on how the work is done, by time where there is a choice; returns its details."""
        self._work = self._prepared()
        return self._work.details

    def spend(self, calls: int) -> timing.Spent:
        """Do the work so many times."""
        return timing.timed(self._work.run)(calls)

    def peak(self) -> int | None:
        """The most bytes that one time needs."""
        return self._work.peak()


def local(name: str, case: Case, torch_compile: bool | None = None) -> Side:
    """A side in this process.

    Args:
      name: ``ours`` or ``torch``.
      case: what to measure.
      torch_compile: see ``section.Options``.

    Raises:
      Skipped: PyTorch cannot be imported or has no such network.
    """
    module = {"ours": "our_runs", "torch": "torch_runs"}[name]
    try:
        runs = importlib.import_module(f"dropclass_jax.benchmark.{module}")
    except (ImportError, OSError) as error:  # OSError: a library of its own is missing
        raise Skipped(f"PyTorch cannot be imported: {first_line(error)}") from None
    return Side(lambda kind: runs.prepare(case, kind, torch_compile))


class Remote:
    """A ``Side`` in another process: the same methods."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process, self._errors = process, errors

    def prepare(self, kind: str) -> None:
        self._ask("prepare", kind)

    def choose(self) -> dict[str, Any]:
        return self._ask("choose")

    def stop(self) -> None:
        """End the process; what it was asked for fails."""
        self._process.kill()

    def spend(self, calls: int) -> timing.Spent:
        return timing.Spent(*self._ask("spend", calls))

    def peak(self) -> int | None:
        return self._ask("peak")

    def _ask(self, *request: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            said = text.last_line(self._errors.read_text())
            raise RuntimeError(f"a process of its own died ({self._process.wait()}): {said}")
        answer = json.loads(line)
        if "skipped" in answer:
            raise Skipped(answer["skipped"])
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]


@contextlib.contextmanager
def started(
    name: str, case: Case, allocator: str, torch_compile: bool | None = None
) -> Iterator[Remote]:
    """A side in a process of its own, which ends with the context.

    Args:
      name, case, torch_compile: as of ``local``.
      allocator: one of ``ALLOCATORS``.
    """
    request = {
        "name": name,
        "case": dataclasses.asdict(case),
        "allocator": allocator,
        "torch_compile": torch_compile,
    }
    with tempfile.NamedTemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*COMMAND, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield Remote(process, Path(errors.name))
        finally:
            process.kill()
            process.communicate()


def answer(side: Callable[[], Side], requests: Iterator[str]) -> Iterator[str]:
    """The answers to some requests, lines of JSON both; what goes wrong is an answer, too."""
    made = None
    for line in requests:
        method, *arguments = json.loads(line)
        try:
            made = made or side()
            yield json.dumps({"result": getattr(made, method)(*arguments)})
        except Skipped as reason:
            yield json.dumps({"skipped": str(reason)})
        except Exception as error:  # whatever it is, the benchmark goes on
            yield json.dumps({"error": f"{type(error).__name__}: {first_line(error)}"})


def main(request: Mapping[str, Any]) -> None:
    """What the process does."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if request["allocator"] == "tuned":
        allocator.keep_all_freed_memory()
    compilation.keep()
    case = Case(**request["case"])
    for line in answer(lambda: local(request["name"], case, request["torch_compile"]), sys.stdin):
        print(line, file=answers, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
