"""Every command that a page shows is one: its files exist, its flags and config keys are known.

What is cheap is run on a tiny run and a tiny folder.
"""

import re
import shutil

import cv2
import jax
import numpy as np
import pages
import pytest
from pages import ROOT
from tiny import known

from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import flatten, load_config

COMMANDS = pages.commands()


def check(words):
    """Refuse a command that a user could not type after ``bash launch/install.sh``."""
    match words:
        case ["python", "-m", "pytest", *arguments]:
            paths = [word for word in arguments if "/" in word]
            assert all((ROOT / path).exists() for path in paths), paths
        case ["python", "-m", module, *arguments]:
            package, _, name = module.partition(".")
            assert (package, name in pages.MODULES) == ("dropclass_jax", True), module
            if arguments:  # else it is the command's name
                pages.parse(name, arguments)
        case ["python", "tests/tiny.py", *arguments]:
            name = "train"
            if arguments and not arguments[0].startswith("-"):
                name = arguments.pop(0).removeprefix("dropclass_jax.")
            with known():
                pages.parse(name, arguments)
        case ["bash", "launch/test.sh" | "launch/install.sh" | "launch/soak.sh" as script, *rest]:
            assert (ROOT / script).exists()
            assert all((ROOT / word).exists() for word in rest if "/" in word), rest
        case ["bash", script, *arguments]:
            check_launch(script, arguments)
        case ["sbatch", *arguments]:
            at = arguments.index("launch/slurm.sbatch")
            check_launch(arguments[at], arguments[at + 1 :])
        case ["source", ".venv/bin/activate"] | ["pip", "install", *_]:
            pass
        case _:
            raise AssertionError(f"no command that a page may show: {words}")


def check_launch(script, arguments):
    """A launch script's own options are in its usage; what is left is for training."""
    usage, body = (ROOT / script).read_text().split("set -euo pipefail")
    own = set(re.findall(r"--[a-z][\w-]*", usage)) - {"--config", "--workdir"}
    subcommands = {word for words in re.findall(r"[a-z]+(?:\|[a-z]+)+", usage) for word in
                   words.split("|")} | {"run"}  # fmt: skip
    rest = [word for word in arguments if word.split("=")[0] not in own and word != "--"]
    following = bool(rest) and rest[0] in subcommands
    if following and rest.pop(0) != "run":
        rest.append("--config=configs/base.py")  # which such a command does not need
    if rest:
        passing_on = [line for line in body.replace("\\\n", "").splitlines() if '"$@"' in line]
        named = re.findall(r"--config=configs/\w+\.py", "\n".join(passing_on))  # by the script
        rest = [*named, *rest]
        pages.parse("train", rest)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.place}-{'-'.join(c.words)[:60]}")
def test_a_command_is_one(command):
    check(command.words)


@pytest.mark.parametrize(
    "words",
    [
        "python -m dropclass_jax.train --config=configs/camvid.py --config.optim.learning_rate=1",
        "python -m dropclass_jax.train --config=configs/camvid.py --work=RUN",
        "python -m dropclass_jax.evaluate --workdir=RUN --head=both",
        "python -m dropclass_jax.evaluate --workdir=RUN more",
        "python -m dropclass_jax.data stats --name=camvid --rule=none",
        "bash launch/multi_gpu.sh --gpu=0 --config=configs/camvid.py --workdir=RUN",
        "bash launch/nothing.sh",
        "python -m pytest tests/test_nothing.py",
        "rm -r RUN",
    ],
)
def test_a_command_that_is_none_is_found(words):
    with pytest.raises((AssertionError, SystemExit, OSError, UserError)):
        check(words.split())


def test_no_command_hides_in_an_indented_block():
    for page in pages.PAGES:
        assert not re.findall(r"^ {4}(?:python|bash|pip|sbatch) .*", page.read_text(), re.MULTILINE)


def test_config_keys_in_the_text_exist():
    """``--config.KEY`` in backticks, and ``section.key=value``."""
    keys = {
        key
        for name in ("camvid", "folder", "cityscapes", "streets")
        for key, _ in flatten(load_config(f"configs/{name}.py"))
    }
    sections = "|".join(sorted({key.split(".")[0] for key in keys if "." in key}))
    for page in pages.PAGES:
        for span in pages.spans(page):
            if match := re.match(rf"(?:--config\.)?((?:{sections})\.[a-z_.]+)=", span):
                assert match[1] in keys, f"{page.name}: {span}"


def test_flags_in_the_text_exist():
    """``--flag`` in backticks is of some command, of ``dropclass_jax.data`` or of a script."""
    modules = set(pages.MODULES) - {"data", "models"}  # which have no absl flags
    known = {f"--{flag}" for module in modules for flag in pages.flags_of(module)}
    known |= {"--help", "--config"} | {"--no" + flag.removeprefix("--") for flag in known}
    files = [*(ROOT / "launch").iterdir(), *(ROOT / "dropclass_jax/data_tools").glob("*.py")]
    files.append(ROOT / "dropclass_jax/data/__main__.py")
    for path in files:
        known |= set(re.findall(r"--[a-z][\w-]*", path.read_text()))
    for page in pages.PAGES:
        for span in pages.spans(page):
            given = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", span))
            assert not given - known, f"{page.name}: {span}"


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    """A folder to work in, with a finished run ``RUN``, images ``INPUT`` and a set ``MYDATA``."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(tiny_run, folder / "RUN")
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / "MYDATA" / kind / split).mkdir(parents=True)
        for name in "abc":
            picture = draw.integers(0, 255, (40, 48, 3), np.uint8)
            cv2.imwrite(str(folder / f"MYDATA/images/{split}/{name}.png"), picture)
            mask = (picture[..., 0] > 128).astype(np.uint8)
            cv2.imwrite(str(folder / f"MYDATA/masks/{split}/{name}.png"), mask)
    shutil.copytree(folder / "MYDATA/images/val", folder / "INPUT")
    return folder


@pytest.mark.parametrize(
    ("page", "text", "leaves"),
    [
        ("README.md", "data check --dir=MYDATA", "MYDATA/classes.yaml"),
        ("docs/evaluation.md", "evaluate --workdir=RUN  ", "RUN/metrics.csv"),
        ("docs/evaluation.md", "compare RUN RUN", "compare-plain_head-drop_head/report.html"),
        ("docs/prediction.md", "predict --workdir=RUN INPUT", "DIR/overlay/a.png"),
    ],
)
def test_what_is_cheap_does_what_its_page_says(finished, monkeypatch, capsys, page, text, leaves):
    monkeypatch.chdir(finished)
    (line,) = [
        line
        for block in pages.blocks("bash")
        if block.page == page
        for line in block.text.splitlines()
        if text in line
    ]
    _, _, module, *arguments = line.split("#")[0].split()
    before = (finished / leaves).stat().st_mtime_ns if (finished / leaves).exists() else 0
    with known():
        assert pages.run(module.removeprefix("dropclass_jax."), arguments) == 0
    assert (finished / leaves).stat().st_mtime_ns > before


def test_an_exported_run_is_called_as_its_page_says(finished, monkeypatch, capsys):
    """The command that exports, then the block that loads the file with jax alone."""
    monkeypatch.chdir(finished)
    export = pages.block("docs/prediction.md", "export --workdir=RUN", "bash")
    with known():
        assert pages.run("export", [*export.split()[3:], "--platforms=cpu", "--nocheck"]) == 0
    images = np.zeros((1, 32, 48, 3), np.uint8)
    names = {"images": images, "jax": jax}
    exec(pages.block("docs/prediction.md", "deserialize"), names)
    assert names["classes"].shape == (1, 32, 48)
    assert names["classes"].dtype == np.uint8
