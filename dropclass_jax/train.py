"""Train a network, from a config to a report.

    python -m dropclass_jax.train --config=configs/streets.py --workdir=RUN

The same command continues a stopped run, exactly from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from dropclass_jax import data
from dropclass_jax.cli import app
from dropclass_jax.cli.run_report import write_reports
from dropclass_jax.data.info import counted_class_list
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference, loop, metrics
from dropclass_jax.experiment import build, check, facts, idle
from dropclass_jax.experiment.batches import load_data, train_batches
from dropclass_jax.experiment.config import flatten
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models.variables import init_variables
from dropclass_jax.ops import cpu_compiler
from dropclass_jax.parallel import leaving, pmap, preemption, processes
from dropclass_jax.reporting import table
from dropclass_jax.reporting.sample_picture import sample_picture
from dropclass_jax.runs import checkpoint, checksums, initial, lock, provenance, results, rundir
from dropclass_jax.runs.progress import Progress, means
from dropclass_jax.training import guard, state


def train(config: ConfigDict, workdir: Path) -> int:
    """Train, evaluate and report.

    Args:
      config: see ``experiment.defaults``.
      workdir: the run's folder; a run of the same config in it is continued. Several processes must
        all see the same one.

    Returns:
      An exit code: 0, or 128 + the signal's number when a signal stopped the run early.

    Raises:
      UserError: a mistake of the user's, found before any work wherever possible.
    """
    start = time.monotonic()
    _check_agreement(config)
    check.check(config)
    with processes.together():
        start_from, report = None, None
        if config.init.path and not checkpoint.exists(workdir):
            any_classes = create_network(config, num_classes=2)
            start_from = initial.read(config.init.path, config.model.name, any_classes)
        dataset = load_data(config)
        built = build.build(config, dataset)
        for split in ("train", *config.eval.splits):
            dataset.check_split(split)
        batches_from = partial(
            train_batches,
            config,
            dataset,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        batches_from()  # refuses what cannot work while there is no run yet
        variables = init_variables(built.model, jax.random.key(config.seed))
        if start_from is not None:
            variables, report = initial.start(variables, start_from, dataset.info.classes)
    weights = None if built.class_weights is None else np.asarray(built.class_weights).tolist()
    processes.check_agreement({"data": dataset.fingerprint, "the list of class weights": weights})
    held = ExitStack()  # what must last as long as the training

    def claim() -> None:
        values = config.to_dict()
        rundir.check_free(workdir, values, dataset.fingerprint)
        held.enter_context(lock.held(workdir))
        rundir.claim(workdir, values, dataset.fingerprint, dataset.counted_info)

    processes.first_process(claim)

    checkpoints = checkpoint.manager(workdir, config.checkpoint.keep)
    # As one program; else every shape of a parameter compiles one of its own, at every start.
    begin = partial(state.from_variables, optimizer=built.optimizer, ema=config.optim.ema > 0)
    current = jax.jit(begin)(variables)
    current = jax.device_get(checkpoint.restore_latest(checkpoints, current))
    arrays = {f"array {name}": checksum for name, checksum in checksums.of(current).items()}
    processes.check_agreement({"the step to start at": int(current.step), **arrays})
    current, key = pmap.replicate((current, jax.random.key(config.seed)))
    del variables, start_from  # a copy of all parameters each, by now
    step = int(current.step)
    progress = Progress(
        workdir, step, config.total_steps, config.batch_size, start, config.log_every
    )
    if step:
        progress.say(f"continuing {workdir} at step {step}")
    elif report:
        progress.say(report)
    batches = batches_from(start_step=step)
    if step < config.total_steps:
        progress.say("compiling the training step ...")
        train_step = _compile(pmap.pmap_step(built.train_step), current, key, config)
    evaluate_splits = partial(
        _evaluate, config, dataset, pmap.pmap_eval(built.eval_step), workdir, progress
    )

    evaluations, losses, since_log = None, guard.LossCheck(workdir), []
    with held, preemption.stop_requests() as stop, checkpoints:
        while True:
            # After the step's checkpoint: a run that is continued there repeats the evaluation.
            if step == config.total_steps:
                evaluations = evaluate_splits(current, config.eval.splits, stop)
            elif step and step % config.eval.every_steps == 0:
                evaluate_splits(current, config.eval.splits[:1], stop)
            received = stop()
            if received or step == config.total_steps:
                break

            progress.resume_clock()
            batch = next(batches)
            current, scalars = train_step(
                current, pmap.shard({name: batch[name] for name in ("image", "label")}), key
            )
            step += 1
            losses.add(step, scalars, batch)
            since_log.append(scalars)
            every = (config.log_every, config.checkpoint.every_steps, config.eval.every_steps)
            log, save, evaluation = (step % n == 0 or step == config.total_steps for n in every)
            if log:
                progress.train(step, means(since_log))
                since_log.clear()
            if save or evaluation:
                losses.finish()
                progress.pause_clock()
                checkpoint.save(checkpoints, current)

        losses.finish()
        checkpoint.save(checkpoints, current)
        checkpoint.finish(checkpoints)
    progress.close()
    if evaluations is None:
        progress.say(f"stopped by {received.name} at step {step}; the same command continues")
        return 128 + received
    if jax.process_index() == 0:
        with rundir.writing(workdir):
            content = results.write(workdir, facts.of(config), dataset, step, evaluations)
            write_reports(workdir, content)
        table.print_tables(content)
        print(f"\nreport: {workdir}/report.html")
    processes.barrier("reported")
    return 0


# Keys of the config that processes on different machines may need to differ in.
_LOCAL = ("data.dir", "data.prepared_dir", "data.num_threads", "data.cache_gib")


def _check_agreement(config: ConfigDict) -> None:
    """Raise ``UserError`` in all processes unless they train the same network by the same code."""
    values = {
        **{f"the version of {name}": number for name, number in provenance.versions().items()},
        **{key: value for key, value in flatten(config) if not isinstance(value, ConfigDict)},
        "the number of local devices": jax.local_device_count(),
    }
    processes.check_agreement({key: x for key, x in values.items() if key not in _LOCAL})


def _compile(
    train_step: Callable[..., Any],
    current: state.TrainState,
    key: jax.Array,
    config: ConfigDict,
) -> Callable[..., Any]:
    """Compile the training step; refuse it if it cannot fit into the device's memory."""
    if jax.process_count() > 1:
        return train_step  # what pmap compiles ahead of time cannot be called by several processes
    height, width = config.augment.crop
    example = {
        "image": np.broadcast_to(np.uint8(0), (config.batch_size, height, width, 3)),
        "label": np.broadcast_to(np.uint8(0), (config.batch_size, height, width)),
    }
    compiled = cpu_compiler.compile_step(train_step.lower(current, pmap.shard(example), key))
    needed = pmap.peak_bytes(compiled)
    available = pmap.device_bytes()
    if needed and available and needed > available:
        raise UserError(
            f"a step of {config.batch_size} crops of {height}x{width} needs "
            f"{needed / 2**30:.1f} GiB a device, which has {available / 2**30:.1f} GiB; "
            "lower --config.augment.crop or --config.batch_size, or raise "
            "--config.accumulate_steps"
        )
    return compiled


def _evaluate(
    config: ConfigDict,
    dataset: data.Dataset,
    eval_step: Callable[..., Any],
    workdir: Path,
    progress: Progress,
    current: state.TrainState,
    splits: tuple[str, ...],
    stop: preemption.StopRequest,
) -> dict[str, loop.Evaluation] | None:
    """Evaluate some splits and record scores and pictures; None if it was stopped."""
    evaluations, info = {}, dataset.counted_info
    step = int(current.step)
    for split in splits:
        evaluation = loop.evaluate_split(
            eval_step, current.eval_variables, dataset, split, config.eval.batch_size, stop=stop
        )
        if evaluation is None:
            return None
        scores = {
            output: metrics.scores(evaluation.confusions[output])
            for output in inference.OUTPUTS  # the one that predicts first
            if output in evaluation.confusions
        }
        progress.eval(step, split, scores, counted_class_list(info))
        for n, sample in enumerate(evaluation.samples, start=1):
            name, answer_of = f"{split}/{n} {sample['id']}", f"{next(iter(scores))} head"
            picture = sample_picture(
                sample, info.classes, info.colors, answer_of, info.ignore_label
            )
            progress.picture(step, name, picture)
        if split == config.eval.splits[0]:
            with rundir.writing(workdir):
                mean_iou = next(iter(scores.values()))["mean_iou"]
                checkpoint.note_evaluation(workdir, step, mean_iou, split, progress.say)
        evaluations[split] = evaluation
    return evaluations


def main(argv: list[str]) -> int:
    """The command."""
    given = flags.FLAGS
    several = (given.coordinator, given.num_processes, given.process_id)
    if given.distributed or any(value is not None for value in several):
        processes.initialize(*several, given.wait_seconds)
    with leaving.leave_together():
        spec = config_flags.get_config_filename(given["config"])
        if jax.process_index() == 0:
            overrides = config_flags.get_override_values(given["config"])
            for note in idle.notes(given.config, overrides).values():
                print(note, flush=True)
        return train(given.config, Path(given.workdir or default_workdir(spec)))


def default_workdir(spec: str) -> str:
    """``runs/camvid-hrnet_w48`` for ``--config=configs/camvid.py:hrnet_w48``."""
    path, _, variant = spec.partition(":")
    return str(Path("runs") / "-".join(filter(None, (Path(path).stem, variant))))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "FILE or FILE:VARIANT; see configs/.")
    flags.mark_flag_as_required("config")
    flags.DEFINE_string("workdir", None, "The run's folder; runs/CONFIG by default.")
    flags.DEFINE_bool(
        "distributed", False, "Join the other processes that a TPU pod, Slurm or MPI has started."
    )
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where nothing else tells.")
    flags.DEFINE_integer("num_processes", None, "How many processes there are.")
    flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")
    flags.DEFINE_integer(
        "wait_seconds", processes.WAIT_SECONDS, "How long they wait for each other at the start.", 1
    )
    app.run(main)
