"""Signals that ask a run to save and leave."""

from __future__ import annotations

import os
import signal

import pytest

from dropclass_jax.parallel import preemption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_collected_once_it_comes(number):
    handler = signal.default_int_handler
    before = signal.signal(number, handler)  # nohup may have started us
    try:
        with preemption.stop_requests() as stop:
            assert stop() is None
            os.kill(os.getpid(), number)
            assert stop() == number
        assert signal.getsignal(number) == handler
    finally:
        signal.signal(number, before)


def test_a_hangup_that_is_ignored_stays_so():
    """As nohup starts a command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with preemption.stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop() is None
    finally:
        signal.signal(signal.SIGHUP, before)
