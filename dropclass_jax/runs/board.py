"""What a run shows on TensorBoard: ``tensorboard/events...`` in its folder.

tensorboardX writes from a thread behind a queue: on a full disk the thread dies, and the next call
waits for it for ever. Here its events are written by the caller, who is told.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

FLUSH_SECONDS = 30


class Board:
    """Events of one process, appended to a file of its own.

    Every method raises ``OSError`` where the file cannot be written.

    Args:
      folder: where the files of all processes of the run lie; made when it is missing.
      first_step: events of an earlier process from this step on are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        self._write(step=first_step, file_version="brain.Event:2")
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Curves, by name."""
        for name, value in values.items():
            self._write(step=step, summary=_tagged(summary.scalar(name, value), name))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture, uint8 ``[H, W, 3]``."""
        content = summary.image(name, image, dataformats="HWC")
        self._write(step=step, summary=_tagged(content, name))

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self._events.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write out what is still in memory."""
        self._events.close()

    def _write(self, **content: object) -> None:
        self._events.write_event(Event(wall_time=time.time(), **content))


def _tagged(content: Summary, name: str) -> Summary:
    """Under its very name; tensorboardX writes ``_`` for what TensorFlow 1 did not allow in it."""
    content.value[0].tag = name
    return content
