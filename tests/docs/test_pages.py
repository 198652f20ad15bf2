"""The pages hold together: links, files that they name, the table of options, tables of results."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pages
import pytest
import yaml
from pages import PAGES, ROOT

from dropclass_jax.experiment.config import flatten, load_config

IDS = [page.name for page in PAGES]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", pages.prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", pages.prose(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_files_it_names_exist(page):
    for span in pages.spans(page):
        if match := re.fullmatch(r"(?:launch|configs|dropclass_jax|tests|results)/[\w./]+", span):
            placeholder = re.search(r"\b[A-Z]{3,}\b|seedN", span)
            assert placeholder or (ROOT / match[0]).exists(), span


def test_the_readme_can_be_read_to_its_end():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_page_is_reached_from_the_readme():
    content = (ROOT / "README.md").read_text()
    assert all(page.name in content for page in PAGES[1:])


def test_the_table_of_options_has_every_key_and_no_other():
    listed = set()
    for key in re.findall(
        r"^\| `([^|]*)` \|", (ROOT / "docs/options.md").read_text(), re.MULTILINE
    ):
        for name in re.split("`, `", key):
            prefix, _, names = name.partition(".{")
            listed |= {f"{prefix}.{n}" for n in names.rstrip("}").split(",")} if names else {name}
    known = dict(flatten(load_config("configs/base.py")))
    assert not listed - known.keys()
    sections = {key for key in known if any(other.startswith(f"{key}.") for other in known)}
    assert not known.keys() - sections - listed


def test_the_table_of_rooms_is_that_of_the_layers():
    """Every room, and in the order in which ``test_house`` lets them import."""
    content = (ROOT / "docs/development.md").read_text()
    table = content.split("| room |")[1].split("| top level |")[0]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines() if line[:1] == "|")
    listed = [name.removesuffix("/").removesuffix(".py") for name in
              re.findall(r"`(\w+(?:/|\.py))`", first_cells)]  # fmt: skip
    source = (ROOT / "tests/test_house.py").read_text().split("ROOMS = (")[1].split("\n)\n")[0]
    assert listed == re.findall(r'"(\w+)"', source)


def table_after(mark: str) -> list[list[str]]:
    """The cells of the rows of a table of RESULTS.md, its header first."""
    (content,) = re.findall(
        rf"<!-- {re.escape(mark)} -->\n((?:\|.*\n)+)", (ROOT / "RESULTS.md").read_text()
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in content.splitlines()]
    return [rows[0], *rows[2:]]


@pytest.mark.parametrize("file", ["results/streets/draw.json", "results/streets/draw_1800.json",
                                  "results/streets/draw_six_seeds.json",
                                  "results/streets/draws.json",
                                  "results/streets/draw_5000.json",
                                  "results/camvid_imagenet/draw.json",
                                  "results/camvid_imagenet/draw_2400.json",
                                  "results/camvid_imagenet/draw_2400_lr_0.008.json",
                                  "results/camvid_imagenet/remedies_2400_lr_0.008.json",
                                  "results/streets/ohem.json",
                                  "results/streets/imbalance.json", "results/streets/remedies.json",
                                  "results/streets/remedies_six_seeds.json",
                                  "results/streets/remedies_5000.json",
                                  "results/camvid_quarter/imbalance.json"])  # fmt: skip
def test_tables_of_sweeps_are_those_of_their_files(file):
    header, *rows = table_after(f"sweep: {file}")
    content = json.loads((ROOT / file).read_text())
    assert len(rows) == len(content["rows"])
    names = {"mIoU": "mean_iou", "head ": "head", "medium": "medium", "tail": "tail",
             "`val_out`": "out_of_context", "gap": "context_gap"}  # fmt: skip
    header[header.index("head", 2)] = "head "  # the group, not what predicts
    for cells, row in zip(rows, content["rows"], strict=True):
        assert cells[:2] == [f"`{row['arm']}`", row["head"]]
        for name in header:
            if name in names:
                shown = cells[header.index(name)].strip("*")
                assert shown == f"{100 * row['scores'][names[name]]['mean']:.1f}", (
                    row["arm"],
                    name,
                )
        low, high = (100 * row["scores"]["mean_iou"][end] for end in ("low", "high"))
        assert cells[3] == f"{low:.1f} to {high:.1f}"


@pytest.mark.parametrize(
    ("row", "column", "file", "arm", "score"),
    [
        ("DropClass by tiles, on plain", 1, "draw_six_seeds", "tile_5_alpha_1", "mean_iou"),
        ("DropClass by tiles, on plain", 2, "draw_5000", "tile_5_alpha_1", "mean_iou"),
        ("DropClass by tiles, on plain", 3, "draw_5000", "tile_5_alpha_1", "out_of_context"),
        ("OHEM with class-uniform", 1, "remedies_six_seeds", "ohem_sampled", "mean_iou"),
        ("OHEM with class-uniform", 2, "remedies_5000", "ohem_sampled", "mean_iou"),
        ("OHEM with class-uniform", 3, "remedies_5000", "ohem_sampled", "out_of_context"),
        ("DropClass as in the paper", 1, "draws", "batch_alpha_10", "mean_iou"),
    ],
)
def test_the_first_answers_of_readme_are_those_of_the_files(row, column, file, arm, score):
    (line,) = re.findall(rf"^\| {row}.*", (ROOT / "README.md").read_text(), re.M)
    rows = json.loads((ROOT / f"results/streets/{file}.json").read_text())["rows"]
    found = next(r for r in rows if r["arm"] == arm)["scores"][score]["difference"]
    value, low, high = (round(100 * found[key], 1) + 0.0 for key in ("value", "low", "high"))
    shown = f"{value:+.1f}" if value else "0.0"
    cell = line.split("|")[1:-1][column].replace("*", "").strip()
    assert cell == f"{shown} ({low:.1f} to {high:.1f})"


def test_what_is_said_of_stopped_runs_is_in_their_file():
    runs = json.loads((ROOT / "results/streets/draw_5000_stopped.json").read_text())["runs"]

    def mean(arm, step):
        head = "plain" if arm in ("plain", "ohem_sampled") else "drop"
        found = [
            100 * evaluation["mean_iou"]
            for run in runs
            for evaluation in run["evaluations"]
            if (run["arm"], evaluation["head"], evaluation["step"]) == (arm, head, step)
        ]
        return f"{np.mean(found):.1f}"

    arms = ["plain", "control", "tile_5_alpha_1"]
    others = ["batch_alpha_10", "ohem_sampled", "ohem_sampled_dropclass"]
    text = (ROOT / "RESULTS.md").read_text()
    said = text.split("The same schedules on an H200")[1].split("Every class")[0]
    expected = [mean(arm, 2000) for arm in arms] + [mean(arm, 1000) for arm in arms + others]
    assert re.findall(r"(?<![.\d])\d\d\.\d(?!\d|\.\d)", said) == expected


def mean_iou(content: dict, split: str, head: str) -> str | None:
    """In percent, as the tables show it; None where there is no such result."""
    found = [r for r in content["results"] if (r["split"], r["head"]) == (split, head)]
    return f"{100 * found[0]['mean_iou']:.1f}" if found else None


def test_the_table_of_single_runs_is_that_of_their_files():
    _, *rows = table_after("runs: results/streets")
    named = [cells for cells in rows if cells[0].startswith("`")]
    assert len(named) >= 8
    for cells in named:
        arm = cells[0].strip("`")
        content = json.loads((ROOT / "results/streets" / arm / "seed0.json").read_text())
        for cell, head in zip(cells[2:], ("drop", "plain"), strict=True):
            inside, outside = (mean_iou(content, split, head) for split in ("val", "val_out"))
            assert cell == (f"{inside} / {outside}" if inside else ""), (arm, head)


def test_the_table_of_classes_is_that_of_its_files():
    header, *rows = table_after("classes: results/camvid_half")
    for arm, _, head, mean, *cells in rows:
        path = ROOT / "results/camvid_half" / arm.strip("`") / "seed0.json"
        content = json.loads(path.read_text())
        assert mean == mean_iou(content, "val", head)
        (entry,) = [r for r in content["results"] if (r["split"], r["head"]) == ("val", head)]
        iou = {c["name"]: 100 * x for c, x in zip(content["classes"], entry["iou"], strict=True)}
        shown = dict(zip(header[4:], map(float, cells), strict=True))
        assert shown == {name: round(value, 1) for name, value in iou.items()}
