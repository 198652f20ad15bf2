"""Exit of one process of a multi-process run that fails: one line, and one of two exit codes.

Two threads may want to end it: its own, which has met an error, and one of jax's runtime, which
aborts the process when it finds the others gone. Whichever is first ends it; the other waits for
that. What the runtime prints before it aborts goes through ``last_words``.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import jax

from dropclass_jax.errors import UserError, first_line

FAILED = 1  # what another start may mend
MISTAKE = 2  # what only the user can: a ``UserError``

# So long the runtime's thread waits for the other one to say why it ends the process.
LAST_WORD_SECONDS = 10

_last_word = threading.RLock()  # held by who ends the process, and never released
_code = FAILED


class AgreedError(UserError):
    """A ``UserError`` that is raised in every process, where all of them have come."""


def exit_when_aborted() -> None:
    """End this process with an exit code of ours where SIGABRT would end it.

    jax's runtime knows no other way to end, and no callback that may be a Python function. So a
    process that has lost the others would seem to have crashed, and one that is about to say why it
    stops would be killed in the middle of it.
    """
    signal_in_c = ctypes.CDLL(None).signal
    signal_in_c.restype = ctypes.c_void_p
    signal_in_c(signal.SIGABRT, _on_abort)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
    """Called in the thread that aborts, of Python or not; never returns, or abort() would go on."""
    if _last_word.acquire(timeout=LAST_WORD_SECONDS):
        faulthandler.dump_traceback(2)  # ``last_words`` leaves it out where it tells nothing
    os._exit(_code)


def is_lost_process(error: BaseException) -> bool:
    """Whether an error means that another process of the run can no longer be reached."""
    signs = "gloo|nccl|connection|heartbeat|unavailable|deadline|barrier"
    return jax.process_count() > 1 and bool(re.search(signs, str(error), re.IGNORECASE))


@contextmanager
def leave_together() -> Iterator[None]:
    """End this process at once if it fails while others are running.

    A regular exit would wait for the others, and they for this process. Without it they stop by
    themselves: at their next exchange or, at the latest, when its heartbeat has been missing for as
    long as ``processes.HEARTBEAT_SECONDS``. From an ``AgreedError`` all of them take their leave.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        global _code
        _last_word.acquire()
        _code = MISTAKE if isinstance(error, UserError) else FAILED
        _say(error)
        if isinstance(error, AgreedError):
            with suppress(Exception):
                jax.distributed.shutdown()  # waits for the others, who are here, too
        os._exit(_code)


def _say(error: Exception) -> None:
    if isinstance(error, UserError):
        line = f"error: {error}"
    elif is_lost_process(error):
        line = (
            f"error: another process of this run is gone ({first_line(error)}): process "
            f"{jax.process_index()} stops too. Start all of them again to continue"
        )
    else:
        line = "".join(traceback.format_exception(error)).rstrip("\n")
    sys.stdout.flush()
    # In one piece: the runtime may be printing, too.
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
