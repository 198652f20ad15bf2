"""What a run says while it goes: one live line on the terminal, JSON lines, TensorBoard."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from dropclass_jax import rundir

_SHORT = {
    "loss": "loss",
    "loss_plain": "plain",
    "loss_drop": "drop",
    "suppression": "supp",
    "loss_auxiliary": "aux",
    "lr": "lr",
    "lambda": "λ",
    "p": "p",
}


class Progress:
    """The record of one run; every method is a no-op in processes other than the first.

    Args:
      workdir: the run's folder.
      step: the step that the run starts or continues at.
      total_steps: its length.
      batch_size: examples a step, over all devices.
      enabled: whether this process records.
    """

    def __init__(
        self, workdir: Path, step: int, total_steps: int, batch_size: int, enabled: bool = True
    ):
        self._workdir = workdir
        self._total = total_steps
        self._batch_size = batch_size
        self._enabled = enabled
        self._live = sys.stdout.isatty()
        if enabled:
            rundir.forget_after(workdir, step, total_steps)
            # Events past this step, of a start that was killed, are hidden by TensorBoard.
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
        self.restart_clock(step)

    def restart_clock(self, step: int) -> None:
        """Measure speed from here on: after compiling, evaluating or saving."""
        self._clock = (step, time.monotonic())

    def train(self, step: int, scalars: dict[str, float]) -> None:
        """Record the scalars of one step; the speed is that since the clock was restarted."""
        since, start = self._clock
        speed = (step - since) * self._batch_size / max(time.monotonic() - start, 1e-9)
        self.restart_clock(step)
        if not self._enabled:
            return
        record = {
            "kind": "train",
            "step": step,
            "total_steps": self._total,
            **scalars,
            "images_per_second": speed,
        }
        rundir.append_record(self._workdir, record)
        for name, value in {**scalars, "images_per_second": speed}.items():
            self._board.add_scalar(f"train/{name}", value, step)
        eta = (self._total - step) * self._batch_size / speed
        self._line(progress_line(step, self._total, eta, speed, scalars))

    def eval(self, step: int, split: str, head: str, scores: dict[str, Any]) -> None:
        """Record the scores of one head on one split."""
        if not self._enabled:
            return
        record = {"kind": "eval", "step": step, "split": split, "head": head}
        record |= {"mean_iou": scores["mean_iou"], "iou": scores["iou"]}
        rundir.append_record(self._workdir, record)
        self._board.add_scalar(f"{split}/{head}/mean_iou", scores["mean_iou"], step)
        self._board.add_scalar(f"{split}/{head}/pixel_accuracy", scores["pixel_accuracy"], step)
        self.say(f"step {step}: mIoU {scores['mean_iou']:.4f} on {split}, {head} head")

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Show a picture, uint8 ``[H, W, 3]``, on TensorBoard."""
        if self._enabled:
            self._board.add_image(name, image, step, dataformats="HWC")

    def say(self, text: str) -> None:
        """Print a line of its own above the live one."""
        if self._enabled:
            print(("\r\x1b[K" if self._live else "") + text, flush=True)

    def close(self) -> None:
        """Write out what is still in memory."""
        if self._enabled:
            self._board.close()
            if self._live:
                print(flush=True)

    def _line(self, text: str) -> None:
        # A terminal gets one line that is written over; a file or a pipe gets a line each.
        print("\r\x1b[K" + text if self._live else text, end="" if self._live else "\n", flush=True)


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
