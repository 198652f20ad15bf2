"""``python -m dropclass_jax.data stats|show|bench`` on a set, as a user types it."""

from __future__ import annotations

import pytest

from dropclass_jax.data.__main__ import main

OPTIONS = {"train": 4, "val": 1, "val_out": 1, "height": 32, "width": 64}


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    options = [f"--option={key}={value}" for key, value in OPTIONS.items()]
    return ["--name", "streets", "--prepared-dir", str(folder), *options]


@pytest.mark.parametrize(
    ("command", "options", "told"),
    [
        ("stats", ["--out", "here", "--rule", "inverse"], "stats.json, stats.png, class_weights"),
        ("show", ["--out", "here/a.png", "--crop", "16", "32", "--count", "2"], "written: here/a"),
        ("bench", ["--size=set", "--repeats=1", "--seconds=0.01", "--threads=1"], "streets: 32x64"),
    ],
)
def test_a_command_gets_the_set_and_its_own_options(
    streets, command, options, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([command, *streets, *options]) == 0
    assert told in capsys.readouterr().out
    assert main([command, *streets, *options, "--tidy"]) == 2
    assert capsys.readouterr().err == (
        "error: unrecognized arguments: --tidy; --help lists the options\n"
    )


@pytest.mark.parametrize("command", ["stats", "show", "bench"])
def test_a_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m dropclass_jax.data {command}" in text
    assert "--prepared-dir" in text
