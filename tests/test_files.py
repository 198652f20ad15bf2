"""Atomic writes."""

import json

import numpy as np
import pytest

from dropclass_jax import files


def test_json_holds_plain_values(tmp_path):
    value = {"a": np.arange(2), "b": (np.float32(0.5), float("nan")), "c": [float("inf"), None]}
    files.write_json(tmp_path / "x.json", value)
    want = {"a": [0, 1], "b": [0.5, None], "c": [None, None]}
    assert json.loads((tmp_path / "x.json").read_text()) == want


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    files.write_text(path, "old")
    with pytest.raises(TypeError), files.atomic(path) as file:
        file.writelines([b"half", None])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "x"
    files.write_text(path, "old")
    with files.atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "x"
    with files.atomic(path) as one, files.atomic(path) as other:
        one.write(b"1")
        other.write(b"22")
    assert path.read_text() == "1"  # the outer block ended last
    assert list(tmp_path.iterdir()) == [path]


def test_csv_keeps_commas_quotes_and_line_ends_in_cells(tmp_path):
    rows = [["a", "b"], ['x, "y"\n', None], ["ö", 0.5]]
    files.write_csv(tmp_path / "x.csv", rows)
    assert (tmp_path / "x.csv").read_bytes() == 'a,b\n"x, ""y""\n",\nö,0.5\n'.encode()
