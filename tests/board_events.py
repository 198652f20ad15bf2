"""What was written for TensorBoard."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def events(folder: Path) -> Iterator[Event]:
    """The events of the one file in a folder, in order."""
    (path,) = folder.iterdir()
    content, at = path.read_bytes(), 0
    while at < len(content):  # length, its checksum, the event, its checksum
        (length,) = struct.unpack_from("Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length
