"""Graceful stop on SIGTERM or SIGINT, on one machine or on all machines of a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental import multihost_utils

StopRequest = Callable[[], signal.Signals | None]


def never() -> None:
    """A ``StopRequest`` that never asks to stop."""


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGTERM, SIGINT and SIGHUP, so that a run can save before it ends.

    SIGTERM is what preemption, Slurm and a plain ``kill`` send, SIGINT is Ctrl-C, of which a second
    one ends the process at once; SIGHUP comes when the terminal is gone, and is left alone where it
    is ignored, as ``nohup`` does.

    Yields:
      A function to call after every step and batch, as often in every process: the signal that
      arrived, or None. With several processes it answers all of them at the same call, whichever
      of them was sent the signal, so that none waits for another that has left.
    """
    received: list[signal.Signals] = []
    several = jax.process_count() > 1
    calls, agreed = 0, False

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))
        if several:  # what the processes agree by listens to SIGTERM alone
            os.kill(os.getpid(), signal.SIGTERM)

    def stop() -> signal.Signals | None:
        nonlocal calls, agreed
        calls += 1
        if not several:
            return received[0] if received else None
        agreed = agreed or multihost_utils.reached_preemption_sync_point(calls)
        return (received[0] if received else signal.SIGTERM) if agreed else None

    ours = [signal.SIGINT] if several else [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ours.append(signal.SIGHUP)
    previous = {number: signal.signal(number, note) for number in ours}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
