"""A source is known by its content, and read once for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fabricate
import pytest

from dropclass_jax import data
from dropclass_jax.data import checksums, files


@pytest.fixture
def read_by(monkeypatch):
    """The names of the files that have been read since it was last asked."""
    read, names = Path.read_bytes, []

    def watched(self):
        names.append(self.name)
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", watched)

    def read_by() -> list[str]:
        seen = sorted(names)
        names.clear()
        return seen

    return read_by


@pytest.fixture
def listed(tmp_path):
    for name in "abc":
        fabricate.write(tmp_path / "source" / name, name.encode() * 50)
    return lambda: list(files.folder(tmp_path / "source").values())


def test_only_what_has_changed_is_read_again(tmp_path, listed, read_by):
    memory = checksums.memory_of(tmp_path, tmp_path / "source")
    before = checksums.checksums(listed(), memory)
    assert len(set(before)) == 3
    assert read_by() == ["a", "b", "c"]
    assert checksums.checksums(listed(), memory) == before
    assert read_by() == []
    # Another content of the same size, with the times set back, as some tools do.
    path = tmp_path / "source" / "b"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"x" * 50)
    os.utime(path, ns=times)
    after = checksums.checksums(listed(), memory)
    assert read_by() == ["b"]
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]


def test_without_a_memory_everything_is_read(tmp_path, listed, read_by):
    memory = checksums.memory_of(tmp_path, tmp_path / "source")
    before = checksums.checksums(listed(), memory)
    memory.write_text("{ half of")
    read_by()
    assert checksums.checksums(listed(), memory) == before
    assert read_by() == ["a", "b", "c"]
    assert len(json.loads(memory.read_text())) == 3
    (tmp_path / "no_folder").write_text("")
    nowhere = checksums.memory_of(tmp_path / "no_folder", tmp_path / "source")
    assert checksums.checksums(listed(), nowhere) == before


def test_what_cannot_be_read_has_none(tmp_path):
    absent = files.missing("it is not there")
    assert checksums.checksums([absent], tmp_path / "memory.json") == [None]


def test_an_edited_image_of_the_same_size_is_another_set(tmp_path, read_by):
    """Uncompressed images do not change their size: what is in them must count."""
    source = tmp_path / "mine"
    fabricate.write_folder(source)
    path = source / "images" / "train" / "a.png"
    path.unlink()
    path = path.with_suffix(".bmp")
    path.write_bytes(fabricate.encode(fabricate.image(5), ".bmp"))
    first = data.load("folder", source, tmp_path / "prepared")
    read_by()
    assert data.load("folder", source, tmp_path / "prepared").fingerprint == first.fingerprint
    assert read_by() == ["classes.yaml"]  # a later start reads no image and no mask
    size = path.stat().st_size
    path.write_bytes(fabricate.encode(fabricate.image(6), ".bmp"))
    assert path.stat().st_size == size
    second = data.load("folder", source, tmp_path / "prepared")
    assert second.fingerprint != first.fingerprint
    assert (second.splits["train"][0]["image"] == fabricate.image(6)).all()
