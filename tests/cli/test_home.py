"""``~`` means the home folder wherever a path is given."""

from __future__ import annotations

from absl import flags

from dropclass_jax.cli import app, home
from dropclass_jax.data.__main__ import main


def test_only_a_path_at_the_beginning_of_a_value_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = ["~/a", "--workdir=~/run", "--config.data.dir=~", "LABEL=~/run", "--config=~/c.py:x"]
    assert home.expanded(given) == [
        "/home/me/a",
        "--workdir=/home/me/run",
        "--config.data.dir=/home/me",
        "LABEL=/home/me/run",
        "--config=/home/me/c.py:x",
    ]
    others = ["", "--out", "a~", "--x=a~/b", "--note=~5 images", "x=/tmp/~/a", "--a=b=~/c", "-"]
    assert home.expanded(others) == others


def test_commands_see_it_expanded(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    app.parse_flags(["program", "--workdir=~/run"])
    assert values.workdir == f"{tmp_path}/run"
    assert main(["check", "--dir=~/none"]) == 2
    assert f"{tmp_path}/none is not a folder" in capsys.readouterr().err
