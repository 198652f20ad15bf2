"""Measure how fast training is, against itself, against PyTorch and against the hardware.

    python -m dropclass_jax.benchmark [--model=NAME,...] [--size=H,W] [--batch=B] [--out=FILE]
    python -m dropclass_jax.benchmark --only=cost --model=hrnet_w18_small_v2 --size=512,1024

Everything that is compared is measured in one run, by turns. The package's docstring says what each
section measures. A section that cannot be measured (no PyTorch, too little memory) is one line.
Stopped by Ctrl-C or by SIGTERM, as ``timeout`` sends it, it keeps what it has measured until then.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from dropclass_jax import cores, models
from dropclass_jax.benchmark import (
    against_torch,
    checkpointing,
    cost,
    evaluation,
    feeding,
    hardware,
    memory,
    scaling,
    settings,
    startup,
    steps,
)
from dropclass_jax.benchmark.case import DTYPES, Case
from dropclass_jax.benchmark.section import Options, Skipped, Stopped, say
from dropclass_jax.cli import app
from dropclass_jax.errors import UserError, first_line, unknown
from dropclass_jax.files import finite
from dropclass_jax.runs import provenance

# In this order. Each has a TITLE, ``measure(case, options)`` and ``lines(results)``.
SECTIONS = {
    "cost": cost,
    "steps": steps,
    "torch": against_torch,
    "hardware": hardware,
    "pipeline": feeding,
    "eval": evaluation,
    "checkpoint": checkpointing,
    "memory": memory,
    "settings": settings,
    "compile": startup,
    "scaling": scaling,
}

Result = dict[str, Any]


def measured(cases: Sequence[Case], names: Sequence[str], options: Options) -> Iterator[Result]:
    """Every section for every case.

    Args:
      cases: what to measure.
      names: keys of ``SECTIONS``.
      options: how.

    Yields:
      ``section``, the fields of the case, ``seconds`` it took, and ``result``, see the section's
      ``measure``; in its place ``skipped`` or ``error``, a line of text, where there is none.
      ``stopped``, true, where that is not all of it.

    Raises:
      KeyboardInterrupt: after what there was of the section in which it came.
    """
    for name in names:
        for case in cases:
            start, interrupt = time.monotonic(), None
            say(f"{name}: {case}")
            try:
                outcome = {"result": finite(SECTIONS[name].measure(case, options))}
            except Stopped as stopped:
                interrupt, outcome = stopped, {"result": finite(stopped.result), "stopped": True}
            except KeyboardInterrupt as stopped:
                interrupt, outcome = stopped, {"error": "stopped before there was a result"}
            except Skipped as reason:
                outcome = {"skipped": str(reason)}
            except Exception as error:  # whatever it is, the others go on
                outcome = {"error": f"{type(error).__name__}: {first_line(error)}"}
            yield {
                "section": name,
                "case": vars(case),
                "seconds": time.monotonic() - start,
                **outcome,
            }
            if interrupt:
                raise interrupt


def report(results: Sequence[Result]) -> str:
    """The results for the terminal, section by section."""
    out = []
    for name, module in SECTIONS.items():
        mine = [(Case(**r["case"]), r) for r in results if r["section"] == name]
        if mine:
            out += ["", f"== {module.TITLE} =="]
        fine = [(case, r["result"]) for case, r in mine if "result" in r]
        if fine:
            out += module.lines(fine)
        for case, r in mine:
            if "result" not in r:
                out += ["", f"{case}: {r.get('skipped') or r['error']}"]
            elif "stopped" in r:
                out += ["", f"{case}: stopped; there would have been more"]
    return "\n".join(out)


def chosen_cases(given: Any) -> list[Case]:
    """The cases that the options ask for; what is not given, as suits the device.

    Raises:
      UserError: an unknown network, or a number out of its range.
    """
    cpu = jax.default_backend() == "cpu"
    names = given.model or ["hrnet_w18_small_v1" if cpu else "hrnet_w18_small_v2"]
    for name in names:
        if name not in models.names():
            raise UserError(f"--model: {unknown('model', name, models.names(), '')}")
    try:
        height, width = map(int, given.size or ((256, 512) if cpu else (512, 1024)))
    except ValueError:
        raise UserError(f"--size is H,W in pixels, not {','.join(given.size)}") from None
    batch = (2 if cpu else 12) if given.batch is None else given.batch
    for flag, value, least in (
        ("size", height, 32),
        ("size", width, 32),
        ("batch", batch, 1),
        ("classes", given.classes, 2),
        ("repeats", given.repeats, 1),
        ("at_once", given.at_once, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"--{flag} {value}: want {least} or more")
    dtype = given.dtype or ("float32" if cpu else "bfloat16")
    return [Case(name, height, width, batch, dtype, given.classes) for name in names]


def chosen_sections(only: Sequence[str]) -> list[str]:
    """The sections to measure, in their usual order; all where none is named.

    Raises:
      UserError: an unknown one.
    """
    for name in only:
        if name not in SECTIONS:
            raise UserError(f"--only: {unknown('section', name, SECTIONS)}")
    return [name for name in SECTIONS if name in only or not only]


def use_cores(count: int | None) -> None:
    """Keep this process and those that it starts to some of the cores that it may use.

    Raises:
      UserError: there are not so many.
    """
    if count is None:
        return
    usable = cores.usable()
    if not 1 <= count <= len(usable):
        raise UserError(f"--cores {count}: want 1 to {len(usable)}")
    os.sched_setaffinity(0, usable[:count])


def main(argv: list[str]) -> int:
    """The command; its exit code is 1 where a section failed, 128 + N where signal N stopped it."""
    given = flags.FLAGS
    use_cores(given.cores)  # before jax starts its threads
    names = chosen_sections(given.only)
    cases = chosen_cases(given)
    if given.out and not Path(given.out).absolute().parent.is_dir():
        raise UserError(f"--out={given.out}: there is no such folder")
    compiled = {"auto": None, "yes": True, "no": False}[given.torch_compile]
    repeats = min(given.repeats, 3) if given.quick else given.repeats
    options = Options(repeats, given.quick, compiled, given.at_once)
    content = {
        "command": provenance.command(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "device": provenance.device_name(),
        "cores": len(cores.usable()),
        "versions": {**provenance.versions(), **against_torch.versions()},
        "revision": provenance.revision(),
        "repeats": repeats,
        "sections": [],
    }
    received = []

    def stop(number: int, frame: Any) -> None:
        del frame
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        for result in measured(cases, names, options):
            content["sections"].append(result)
            if given.out:  # after every one, so that a crash costs none
                Path(given.out).write_text(json.dumps(content, indent=2) + "\n")
    except KeyboardInterrupt:
        pass  # what there is is told
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    used = f"{content['cores']} core{'s' * (content['cores'] > 1)} in use"
    print(f"{content['device']}, {used}; {versions}; medians of {repeats} turns")
    print(report(content["sections"]))
    ended = f"stopped by {signal.Signals(received[0]).name}" if received else "done"
    say(ended + (f"; all numbers are in {given.out}" if given.out else ""))
    if received:
        return 128 + received[0]
    return int(any("error" in result for result in content["sections"]))


if __name__ == "__main__":
    # PyTorch shares the device's memory in this process.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags.DEFINE_list("only", [], f"Sections: {', '.join(SECTIONS)}; all by default.")
    flags.DEFINE_list("model", [], "Networks, see dropclass_jax.models; a small one by default.")
    flags.DEFINE_list("size", [], "H,W of the crops, in pixels.")
    flags.DEFINE_integer("batch", None, "Crops a step.")
    flags.DEFINE_enum("dtype", None, list(DTYPES), "float32 on a CPU, else bfloat16, by default.")
    flags.DEFINE_integer("cores", None, "How many CPU cores to use; all by default.")
    flags.DEFINE_integer("classes", 19, "How many classes.")
    flags.DEFINE_integer("repeats", 7, "Turns of everything that is timed.")
    flags.DEFINE_bool("quick", False, "Fewer turns, and not what takes long.")
    flags.DEFINE_enum(
        "torch_compile", "auto", ["auto", "yes", "no"], "Try torch.compile; auto: on a GPU."
    )
    flags.DEFINE_integer(
        "at_once",
        None,
        "Seconds at most to prepare all that is compared with PyTorch at once, each in a process "
        "of its own; takes the memory of all. One after the other by default.",
    )
    flags.DEFINE_string("out", None, "A JSON file for all of the numbers.")
    app.run(main)
