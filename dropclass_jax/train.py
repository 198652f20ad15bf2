"""Train a network, from a config to a report.

    python -m dropclass_jax.train --config=configs/streets.py --workdir=RUN

The same command continues a run that was stopped, exactly where its last checkpoint is.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from dropclass_jax import (
    checkpoint,
    command,
    data,
    evaluate,
    experiment,
    metrics,
    parallel,
    rundir,
    state,
    weights,
)
from dropclass_jax.data import pipeline
from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained
from dropclass_jax.progress import Progress
from dropclass_jax.reporting import pictures


def train(config: ConfigDict, workdir: Path) -> int:
    """Train, evaluate and report.

    Args:
      config: see ``configs/base.py``.
      workdir: the run's folder; a run of the same config in it is continued.

    Returns:
      An exit code: 0, or 128 + the signal's number when a signal stopped the run early.

    Raises:
      UserError: anything that the user can mend; before any work wherever possible.
    """
    start = time.monotonic()
    initial_weights = None
    if config.init.path and not checkpoint.exists(workdir):
        initial_weights = weights.read(config.init.path)
    dataset = experiment.load_data(config)
    built = experiment.build(config, dataset)
    for split in ("train", *config.eval.splits):
        evaluate.check_split(dataset, split)
    batches = pipeline.train_iterator(
        dataset.splits["train"],
        seed=config.seed,
        batch_size=config.batch_size,
        crop=config.augment.crop,
        scale_range=config.augment.scale,
        scale_step=config.augment.scale_step,
        flip=config.augment.flip,
        num_threads=config.data.num_threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    variables = state.init_variables(
        built.model, jax.random.key(config.seed), image_shape=(64, 64, 3)
    )
    if initial_weights is not None:
        variables, report = pretrained.load_state_dict(variables, initial_weights)
    rundir.claim(workdir, config, dataset.fingerprint)

    checkpoints = checkpoint.manager(workdir, config.checkpoint.keep)
    current = state.from_variables(variables, built.optimizer, ema=config.optim.ema > 0)
    current = checkpoint.restore_latest(checkpoints, current, batches)
    step = int(current.step)
    progress = Progress(
        workdir, step, config.total_steps, config.batch_size, jax.process_index() == 0
    )
    if step:
        progress.say(f"continuing {workdir} at step {step}")
    elif initial_weights is not None:
        progress.say(f"{config.init.path}: {report}")
    train_step = _compile(parallel.pmap_step(built.train_step), current, config)
    eval_step = parallel.pmap_eval(built.eval_step)
    progress.restart_clock(step)

    with stop_signals() as received, checkpoints:
        while step < config.total_steps and not received:
            batch = parallel.shard({k: v for k, v in next(batches).items() if k != "id"})
            current, scalars = train_step(current, batch)
            step += 1
            if step % config.log_every == 0 or step == config.total_steps:
                scalars = {name: float(value) for name, value in scalars.items()}
                _check_finite(scalars, step, workdir)
                progress.train(step, scalars)
            # Evaluate before saving: a run that is killed in between does both again, in order.
            if step % config.eval.every_steps == 0 and step < config.total_steps:
                _evaluate(config, dataset, eval_step, current, progress, config.eval.splits[:1])
                progress.restart_clock(step)
            if step % config.checkpoint.every_steps == 0 or step == config.total_steps:
                checkpoint.save(checkpoints, current, batches)
        if received:
            checkpoint.save(checkpoints, current, batches)
    if received:
        progress.say(f"stopped by {received[0].name} at step {step}; the same command continues")
        progress.close()
        return 128 + received[0]

    evaluations = _evaluate(config, dataset, eval_step, current, progress, config.eval.splits)
    progress.close()
    if jax.process_index() == 0:
        content = evaluate.write_results(
            workdir, config, dataset, step, evaluations, seconds=time.monotonic() - start
        )
        evaluate.print_tables(content)
        print(f"\nreport: {workdir}/report.html")
    return 0


def _compile(
    train_step: Callable[..., Any], current: state.TrainState, config: ConfigDict
) -> Callable[..., Any]:
    """Compile the step, and refuse it when it cannot fit into the device's memory."""
    local = config.batch_size // jax.process_count()
    height, width = config.augment.crop
    example = {
        "image": np.broadcast_to(np.uint8(0), (local, height, width, 3)),
        "label": np.broadcast_to(np.uint8(0), (local, height, width)),
    }
    compiled = train_step.lower(current, parallel.shard(example)).compile()
    needed = parallel.peak_bytes(compiled)
    available = parallel.device_bytes()
    if needed and available and needed > available:
        raise UserError(
            f"a step of {config.batch_size} crops of {height}x{width} needs "
            f"{needed / 2**30:.1f} GiB a device, which has {available / 2**30:.1f} GiB; "
            "lower --config.augment.crop or --config.batch_size, or raise "
            "--config.accumulate_steps"
        )
    return compiled


def _check_finite(scalars: dict[str, float], step: int, workdir: Path) -> None:
    if not math.isfinite(scalars["loss"]):
        terms = ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        raise UserError(
            f"the loss is not finite at step {step} ({terms}); lower --config.optim.lr. "
            f"{workdir} keeps the last checkpoint"
        )


def _evaluate(
    config: ConfigDict,
    dataset: data.Dataset,
    eval_step: Callable[..., Any],
    current: state.TrainState,
    progress: Progress,
    splits: tuple[str, ...],
) -> dict[str, evaluate.Evaluation]:
    """Evaluate on some splits, and record the scores and a picture."""
    evaluations = {}
    step = int(current.step)
    for split in splits:
        evaluation = evaluate.evaluate_split(
            eval_step, current.eval_variables, dataset, split, config.eval.batch_size
        )
        for head, confusion in sorted(evaluation.confusions.items()):
            progress.eval(step, split, head, metrics.scores(confusion))
        for n, sample in enumerate(evaluation.samples):
            progress.picture(step, f"{split}/{n}", _side_by_side(sample, dataset))
        evaluations[split] = evaluation
    return evaluations


def _side_by_side(sample: dict[str, Any], dataset: data.Dataset) -> np.ndarray:
    """Input, label and prediction as one picture, uint8 ``[H, 3 W, 3]``."""
    maps = (sample["label"], sample["prediction"])
    painted = (pictures.colorize(m, dataset.info.colors, dataset.info.ignore_label) for m in maps)
    return np.concatenate([sample["image"], *painted], axis=1)


@contextmanager
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Collect SIGTERM and SIGINT in a list instead of dying, so that a run can save and leave.

    A second Ctrl-C ends the process at once.
    """
    received: list[signal.Signals] = []

    def note(number: int, frame: Any) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    previous = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def main(argv: list[str]) -> int:
    """The command."""
    return train(flags.FLAGS.config, Path(flags.FLAGS.workdir))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "FILE or FILE:VARIANT; see configs/.")
    flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
    command.run(main)
