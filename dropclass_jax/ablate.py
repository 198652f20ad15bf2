"""Train the arms of a sweep over several seeds, and compare them.

    python -m dropclass_jax.ablate --sweep=configs/sweeps/alpha.py --config=configs/streets.py \\
        --dir=SWEEPDIR [--config.KEY=VALUE ...] [--seeds=0,1,2]

Every run is an ordinary one, in SWEEPDIR/ARM/seedN. The same command continues stopped runs,
repeats failed ones, and skips finished ones.
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from dropclass_jax.cli import app, out_folder
from dropclass_jax.errors import UserError
from dropclass_jax.reporting import sweep_page, sweep_summary, wording
from dropclass_jax.runs import provenance, records
from dropclass_jax.runs.results import common_counts, try_metrics
from dropclass_jax.sweeps import jobs, plan, slurm
from dropclass_jax.sweeps.plan import Run

TRAIN = (sys.executable, "-m", "dropclass_jax.train")


def commands(runs: Sequence[Run], spec: str, program: Sequence[str] = TRAIN) -> list[list[str]]:
    """The command line of every run."""
    return [[*program, *plan.arguments(spec, run)] for run in runs]


def train(
    runs: Sequence[Run],
    spec: str,
    folder: Path,
    places: Sequence[jobs.Slot],
    program: Sequence[str] = TRAIN,
) -> int:
    """Train runs, several at a time.

    Args:
      runs: from ``sweep.plan``, without finished ones.
      spec: the config that they are told apart from.
      folder: the sweep's.
      places: from ``jobs.slots``.
      program: what trains.

    Returns:
      An exit code: 0, 1 where a run failed, or 128 + a signal's number.
    """
    by_folder = {run.workdir: run.name for run in runs}
    todo = [
        jobs.Job(run.name, words, log_of(run), by_folder.get(run.after))
        for run, words in zip(runs, commands(runs, spec, program), strict=True)
    ]
    show = _Show(runs)
    with jobs.only_one(folder) as lock:
        received = jobs.run(todo, places, lock, show.started, show.ended, show.running)
    if received:
        print(f"stopped by {received.name}; the same command continues")
        return 128 + received
    return 1 if show.failed else 0


def log_of(run: Run) -> Path:
    """The log of a run, beside its folder: ``SWEEPDIR/ARM/seedN.log``."""
    return run.workdir.with_name(run.workdir.name + ".log")


class _Show:
    """Progress of a sweep: a line for each start and end, and a live line on a terminal."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.failed = 0
        self._runs = {run.name: run for run in runs}
        self._ended = 0
        self._live = sys.stdout.isatty()
        self._shown = 0.0

    def started(self, job: jobs.Job, place: jobs.Slot) -> None:
        gpu = place.environment.get("CUDA_VISIBLE_DEVICES")
        cores = ", ".join(map(str, sorted(place.cores)))
        where = f" on GPU {gpu}" if gpu else f" on CPU {cores}" if cores else ""
        self._say(f"{job.name}: started{where}; log: {job.log}")

    def ended(self, job: jobs.Job, code: int | None, seconds: float) -> None:
        run = self._runs[job.name]
        self._ended += 1
        count = f"{self._ended}/{len(self._runs)}"
        if code == 0:
            time_taken = wording.duration(seconds)
            scores = ", ".join(
                f"{entry['mean_iou']:.4f} on {entry['split']} ({entry['head']} head)"
                for entry in try_metrics(run.workdir).get("results", ())
                if entry["split"] == run.config.eval.splits[0]
            )
            self._say(f"{job.name}: done, {count}, in {time_taken}; mIoU {scores}")
        elif code is not None and code > 128:
            self._say(f"{job.name}: stopped")
        else:
            self.failed += 1
            why = f"not started, as {job.after} failed" if code is None else _last_words(job, code)
            self._say(f"{job.name}: FAILED, {count}: {why}")

    def running(self, now: Sequence[jobs.Job]) -> None:
        if not self._live or time.monotonic() - self._shown < 2:
            return
        self._shown = time.monotonic()
        parts = [f"{self._ended}/{len(self._runs)} done"]
        for run in (self._runs[job.name] for job in now):
            last = max((r["step"] for r in records.read(run.workdir)[0]), default=0)
            parts.append(f"{run.name} {last}/{run.config.total_steps}")
        print("\r\x1b[K" + "  ".join(parts)[:120], end="", flush=True)

    def _say(self, text: str) -> None:
        print(("\r\x1b[K" if self._live else "") + text, flush=True)


def _last_words(job: jobs.Job, code: int) -> str:
    lines = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    last = (errors or lines or ["no output"])[-1].removeprefix("error: ")
    return f"exit code {code}: {last}; log: {job.log}"


def report(runs: Sequence[Run], arms: plan.Sweep, spec: str, folder: Path) -> None:
    """Compare the finished runs: a table on the terminal, and files in the sweep's folder."""
    finished = [run for run in runs if plan.is_finished(run)]
    if not finished:
        raise UserError(f"no run of the sweep in {folder} is finished")
    plan.check_data(finished)
    # The reference arm first, whatever the order in which runs were planned.
    finished.sort(key=lambda run: list(arms.arms).index(run.arm))
    counts = common_counts([run.workdir for run in finished])
    results = [
        sweep_summary.Result(
            run.arm,
            plan.family(arms.arms[run.arm]),
            run.seed,
            plan.steps_in_all(run, runs),
            try_metrics(run.workdir),
            records.read(run.workdir)[0],
            run.config.batch_size,
            of_images,
        )
        for run, of_images in zip(finished, counts, strict=True)
    ]
    missing = [run.name for run in runs if run not in finished]
    command = provenance.command()
    with out_folder.writing(folder, "--dir"):
        print(sweep_page.write(folder, results, arms.question, arms.arms, spec, missing, command))


def main(argv: list[str]) -> int:
    """The command."""
    given = flags.FLAGS
    # This process only plans, and must not take GPU memory that its runs need.
    jax.config.update("jax_platforms", "cpu")
    if given.print + given.slurm + given.report > 1:
        raise UserError("--print, --slurm and --report exclude each other")
    config: ConfigDict = given.config
    spec = config_flags.get_config_filename(given["config"])
    overrides = config_flags.get_override_values(given["config"])
    if "seed" in overrides:
        raise UserError("a sweep sets --config.seed of its runs itself: give --seeds=0,1,2")
    arms = plan.choose(plan.load(given.sweep, config), given.arms or ())
    folder = Path(given.dir)
    runs = plan.plan(arms, config, folder, _seeds(given.seeds))
    todo = [run for run in runs if not plan.is_finished(run)]
    code = 0
    if todo and not given.report:
        with contextlib.redirect_stdout(sys.stderr):  # stdout may be for commands alone
            plan.check_data(runs, plan.check(todo))
            for note in plan.notes(todo, arms.arms, overrides):
                print(note)
        if given.print:
            for words in commands(todo, spec):
                print(shlex.join(words))
            return 0
        if given.slurm:
            print(slurm.write(folder, waves(todo), spec))
            return 0
        places = jobs.slots(given.jobs, jobs.gpus())
        done = len(runs) - len(todo)
        print(f"{wording.count(len(runs), 'run')}, {done} finished already", flush=True)
        code = train(todo, spec, folder, places)
    elif given.print or given.slurm:
        print("every run is finished", file=sys.stderr)
        return 0
    if code < 128 and (code == 0 or any(map(plan.is_finished, runs))):
        report(runs, arms, spec, folder)
    return code


def waves(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs so that each group depends on earlier groups only."""
    places: dict[Path, int] = {}
    for run in runs:
        places[run.workdir] = places.get(run.after, -1) + 1
    ordered = sorted(runs, key=lambda run: places[run.workdir])
    groups = itertools.groupby(ordered, key=lambda run: places[run.workdir])
    return [list(group) for _, group in groups]


def _seeds(words: Sequence[str]) -> list[int]:
    seeds = [int(word) for word in words if word.isdecimal()]
    if not words or len({*seeds}) < len(words):
        raise UserError(f"--seeds are different whole numbers, as 0,1,2, not {','.join(words)!r}")
    return seeds


if __name__ == "__main__":
    flags.DEFINE_string("sweep", None, "The file of the arms; see configs/sweeps/.", required=True)
    flags.DEFINE_string("dir", None, "The sweep's folder.", required=True)
    config_flags.DEFINE_config_file("config", None, "What the arms differ from; see configs/.")
    flags.mark_flag_as_required("config")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Of every arm.")
    flags.DEFINE_list("arms", [], "Only these; all by default.")
    flags.DEFINE_integer("jobs", None, "Runs at a time; by default one a GPU, or one.", 1)
    flags.DEFINE_bool("print", False, "Train nothing, but print the commands, one a line.")
    flags.DEFINE_bool("slurm", False, "Train nothing, but write a Slurm array job.")
    flags.DEFINE_bool("report", False, "Train nothing, but compare what is finished.")
    app.run(main)
