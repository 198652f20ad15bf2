"""Text of strangers in pages, spreadsheets and on terminals."""

from __future__ import annotations

import csv

import pytest

from dropclass_jax.files import write_csv
from dropclass_jax.reporting import page
from dropclass_jax.reporting.text_table import aligned


def test_a_page_runs_no_script_whatever_is_in_it():
    html = page.page("<title>", ["<script>alert(1)</script>"])
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert html.index(policy) < html.index("<title>") < html.index("<script>")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\r="])
def test_a_spreadsheet_computes_nothing(tmp_path, start):
    write_csv(tmp_path / "x.csv", [("name", "score"), (f"{start}1+cmd", -0.5), ("a", None)])
    with open(tmp_path / "x.csv", newline="") as file:
        header, (name, score), second = csv.reader(file)
    assert (header, score, second) == (["name", "score"], "-0.5", ["a", ""])
    assert name == f"'{start}1+cmd".replace("\r", " ")  # a carriage return splits rows


def test_a_terminal_obeys_nothing():
    lines = aligned(
        ["class", "IoU"], [["\x1b[31mred\x07", "1"], ["a\nb\x9b", "2"]], [["mean", "3"]]
    )
    assert lines[2].startswith("?[31mred?")
    assert lines[3].startswith("a?b? ")
    assert lines[-1].split() == ["mean", "3"]
