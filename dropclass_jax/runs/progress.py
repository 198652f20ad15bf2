"""Training progress: a live line on the terminal, ``metrics.jsonl``, TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dropclass_jax.evaluation import summary
from dropclass_jax.runs import records, starts
from dropclass_jax.runs.rundir import writing

_SHORT = {
    "loss": "loss",
    "loss_plain": "plain",
    "loss_plain_region": "region",
    "loss_drop": "drop",
    "loss_drop_region": "region",
    "suppression": "supp",
    "dropped_classes": "dropped",
    "loss_auxiliary": "aux",
    "skipped": "skipped",
    "lr": "lr",
    "lambda": "λ",
    "p": "p",
}


# Of these the mean over the steps is logged, of other scalars the last.
_AVERAGED = ("loss", "suppression", "dropped", "gradient_norm")


def means(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What is logged of the scalars of some steps.

    Losses, the shares of what was dropped and norms are averaged; rates, coefficients and counters
    are those of the last step. Steps whose loss is not finite are left out of the averages, unless
    there is no other.

    Args:
      steps: the scalars of each step, the last one last; on a device or not.
    """
    steps = jax.device_get(list(steps))
    fine = [scalars for scalars in steps if np.isfinite(scalars["loss"])] or steps
    return {
        name: float(np.mean([scalars[name] for scalars in fine]))
        if name.startswith(_AVERAGED)
        else float(last)
        for name, last in steps[-1].items()
    }


class Progress:
    """Logs the progress of one run; only the first process writes.

    Args:
      workdir: the run's folder.
      step: the step that the run starts or continues at.
      total_steps: its length.
      batch_size: examples a step, over all devices.
      start: when the process started, by ``time.monotonic``.
      log_every: how many steps apart the records of training are.

    Raises:
      UserError: the folder cannot be written; every method that records may raise it.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        total_steps: int,
        batch_size: int,
        start: float,
        log_every: int = 0,
    ) -> None:
        self._workdir = workdir
        self._total = total_steps
        self._batch_size = batch_size
        self._enabled = jax.process_index() == 0
        self._live = sys.stdout.isatty()
        self._start = start
        if self._enabled:
            # tensorboardX imports torch where there is one: seconds that no mistake waits for.
            from dropclass_jax.runs.board import Board

            with writing(workdir):
                records.forget_after(workdir, step, log_every, self.say)
                self._starts = starts.begin(workdir, step)
                # TensorBoard hides events past this step, which a killed start has left.
                self._board = Board(workdir / "tensorboard", first_step=step + 1)
        self._trained_since = step, 0.0  # the step of the last record, and seconds of training
        self._running_since: float | None = None

    def resume_clock(self) -> None:
        """Start counting the time as training time."""
        if self._running_since is None:
            self._running_since = time.monotonic()

    def pause_clock(self) -> None:
        """Stop counting: what follows is evaluation or saving."""
        last, seconds = self._trained_since
        self._trained_since = last, seconds + time.monotonic() - self._running_since
        self._running_since = None

    def train(self, step: int, scalars: dict[str, float]) -> None:
        """Record the ``means`` of the steps up to this one, and the speed of training in them."""
        self.pause_clock()
        since, seconds = self._trained_since
        self._trained_since = step, 0.0
        self.resume_clock()
        speed = (step - since) * self._batch_size / max(seconds, 1e-9)
        if not self._enabled:
            return
        record = {
            "kind": "train",
            "step": step,
            "total_steps": self._total,
            **scalars,
            "images_per_second": speed,
        }
        curves = {f"train/{name}": x for name, x in {**scalars, "images_per_second": speed}.items()}
        with writing(self._workdir):
            records.append(self._workdir, [record])
            self._board.scalars(step, curves)
            starts.update(self._workdir, self._starts, time.monotonic() - self._start)
        eta = (self._total - step) * self._batch_size / speed
        self._line(progress_line(step, self._total, eta, speed, scalars))

    def eval(
        self,
        step: int,
        split: str,
        heads: Mapping[str, Mapping[str, Any]],
        classes: Sequence[Mapping[str, Any]],
    ) -> None:
        """Record the scores of every output on one split.

        Args:
          step: the number of steps trained.
          split: the name of the split.
          heads: ``metrics.scores`` of each output, the one that predicts first.
          classes: ``name`` and ``train_pixel_share`` of each class.
        """
        if not self._enabled:
            return
        common = {"kind": "eval", "step": step, "split": split}
        lines = [
            {**common, "head": head, "mean_iou": scores["mean_iou"], "iou": scores["iou"]}
            for head, scores in heads.items()
        ]
        with writing(self._workdir):
            records.append(self._workdir, lines)
            for head, scores in heads.items():
                self._board.scalars(step, score_curves(split, head, scores, classes))
            starts.update(self._workdir, self._starts, time.monotonic() - self._start)
        for head, scores in heads.items():
            self.say(f"step {step}: mIoU {scores['mean_iou']:.4f} on {split}, {head} head")

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Show a picture, uint8 ``[H, W, 3]``, on TensorBoard, under a name as ``val/1 ID``."""
        if self._enabled:
            with writing(self._workdir):
                self._board.image(step, name, image)

    def say(self, text: str) -> None:
        """Print a message above the live line."""
        if self._enabled:
            print(("\r\x1b[K" if self._live else "") + text, flush=True)

    def close(self) -> None:
        """Flush and close."""
        if self._enabled:
            with writing(self._workdir):
                self._board.close()
            if self._live:
                print(flush=True)

    def _line(self, text: str) -> None:
        # On a terminal the line is overwritten; in a file or a pipe every one stays.
        print("\r\x1b[K" + text if self._live else text, end="" if self._live else "\n", flush=True)


def score_curves(
    split: str, head: str, scores: Mapping[str, Any], classes: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """What TensorBoard shows of the scores of one output on one split.

    ``SPLIT/HEAD/mean_iou`` and ``pixel_accuracy``; ``SPLIT/HEAD/mean_iou of tail classes`` and of
    the other groups of ``summary.GROUPS``; and in a section of its own ``SPLIT class
    IoU/HEAD/CLASS``. What has no score, as a class that the split lacks, has no point.

    Args:
      split: the name of the split.
      head: the name of the output.
      scores: ``metrics.scores``.
      classes: ``name`` and ``train_pixel_share`` of each class.
    """
    iou = [None if np.isnan(value) else float(value) for value in scores["iou"]]
    groups = summary.group_means({"iou": iou}, classes)
    curves = {
        **{f"{split}/{head}/{name}": scores[name] for name in ("mean_iou", "pixel_accuracy")},
        **{f"{split}/{head}/mean_iou of {g} classes": mean for g, (mean, _) in groups.items()},
        **{
            f"{split} class IoU/{head}/{entry['name']}": value
            for entry, value in zip(classes, iou, strict=True)
        },
    }
    return {tag: value for tag, value in curves.items() if value is not None}


def progress_line(
    step: int, total: int, eta: float, speed: float, scalars: dict[str, float]
) -> str:
    """``step 120/700  17 %  eta 4:10  8.1 img/s  loss 1.23 ...``; eta in seconds."""
    minutes, seconds = divmod(round(eta), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    values = "  ".join(
        f"{short} {scalars[name]:.3g}" for name, short in _SHORT.items() if name in scalars
    )
    return f"step {step}/{total}  {step / total:.0%}  eta {clock}  {speed:.3g} img/s  {values}"
