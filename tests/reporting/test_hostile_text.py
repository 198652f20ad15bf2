"""Text of strangers in pages, spreadsheets and on terminals."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from html_page import Page
from report_fixture import CAMVID, write_run

from dropclass_jax.files import write_csv
from dropclass_jax.reporting import analysis_page, markup, page, run_page, sweep_page
from dropclass_jax.reporting.markup import Html, b, element, join
from dropclass_jax.reporting.sweep_summary import Result
from dropclass_jax.reporting.text_table import aligned

EVIL = "<script>alert('&amp;')</script>"


def hostile(value: Any) -> Any:
    """The same content, with a script behind every text, and keys left as they are."""
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


def runs_nothing(source: str) -> str:
    """Check that a page has no tag of a script; what it shows."""
    shown = Page(source)
    assert "script" not in shown.tags
    assert "<script" not in source.lower()
    assert "&lt;b&gt;" not in source  # HTML that was taken for text
    return shown.text


def test_html_is_made_of_text_alone():
    assert join("<a>", b("<b>"), 3) == "&lt;a&gt;<b>&lt;b&gt;</b>3"
    assert isinstance(b("x") + "<", Html)
    assert b("x") + "<" == "<b>x</b>&lt;"
    assert "<" + b("x") == "&lt;<b>x</b>"
    assert isinstance("<" + b("x"), Html)
    assert join(f"{b('x')}") == "&lt;b&gt;x&lt;/b&gt;"  # a string again, and so text
    assert join("a", b("c"), between=" & ") == "a &amp; <b>c</b>"
    assert element("i", "x", kind='"', title="'>") == ('<i class="&quot;" title="&#x27;&gt;">x</i>')
    assert markup.html(None) == "None"


@pytest.mark.parametrize(
    "made",
    [
        page.beside(b("figure"), {EVIL: EVIL}),
        page.bullets([EVIL]),
        page.definitions({EVIL: EVIL}, "facts"),
        page.folded(EVIL, b("content")),
        page.table([EVIL], [("mean", [EVIL])]),
        page.tiles([(EVIL, EVIL)]),
        Html(page.page(EVIL, [EVIL])),
    ],
    ids=("beside", "bullets", "definitions", "folded", "table", "tiles", "page"),
)
def test_every_part_of_a_page_escapes_what_is_no_html(made):
    assert isinstance(made, Html)
    assert EVIL in Page(made).text
    assert "<script" not in made


def test_a_page_runs_no_script_whatever_is_in_it():
    html = page.page("<title>", [Html("<script>alert(1)</script>")])
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert html.index(policy) < html.index("<title>") < html.index("<script>")


def test_the_page_of_a_run_of_a_stranger(tmp_path):
    run = write_run(tmp_path / "run", CAMVID, splits=("val", "val_out"), samples=0)
    metrics = json.loads((run / "metrics.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics["view_results"] = [{**metrics["results"][0], "inference": "flip"}]
    evil = hostile(metrics) | {"step": EVIL, "seed": EVIL}
    for entry, own in zip(evil["results"], metrics["results"], strict=True):
        # By these names heads are told apart, and two splits are compared.
        entry |= {"split": own["split"], "head": own["head"], "images": EVIL}
    text = runs_nothing(run_page.run_page(evil, lines, 1, {}, json.dumps({"a": EVIL})))
    for words in ("streets", "Pedestrian", "flip", "cpu x 1", "jax 0.10.2", "for ", "On "):
        assert words + EVIL in text
    evil["results"] = [{**entry, "split": EVIL} for entry in evil["results"]]
    assert EVIL in runs_nothing(run_page.run_page(evil, [], 0, {}, None))


def test_the_page_of_a_sweep_of_a_stranger(tmp_path):
    run = write_run(tmp_path / "run", CAMVID, splits=("val",), samples=0)
    metrics = hostile(json.loads((run / "metrics.json").read_text()))
    for entry in metrics["results"]:
        entry["split"], entry["head"] = "val", entry["head"].removesuffix(EVIL)
    results = [Result(f"{arm}{EVIL}", arm, 0, 7, metrics, [], 8, {}) for arm in "ab"]
    arms = {f"{arm}{EVIL}": {f"key{EVIL}": EVIL} for arm in "ab"}
    sweep_page.write(tmp_path, results, EVIL, arms, EVIL, [EVIL], EVIL)
    text = runs_nothing((tmp_path / "report.html").read_text())
    for words in ("a", "b, plain head", "key", "cpu x 1", "hrnet_w18_small_v1", "jax 0.10.2"):
        head, _, tail = words.partition(",")
        assert head + EVIL + (_ + tail) in text


def test_the_page_of_an_analysis_of_strangers(tmp_path):
    K = 3
    rng = np.random.default_rng(0)
    square = rng.uniform(-1, 1, (K, K)).tolist()
    effect = {"iou": [0.5] * K, "change": square, "low": square, "high": square}
    effect |= {"clear": [[True] * K] * K, "leaning": [0.1] * K}
    effect |= {"leaning_low": [0.0] * K, "leaning_high": [0.2] * K}
    classes = [
        {"name": f"class {k}", "color": [k, k, k], "train_pixel_share": 0.1 / (k + 1)}
        for k in range(K)
    ]
    image = {"id": "x", "share_of_image": 0.1, "found": 0.5, "heat_on_class": {"features": 0.2}}
    run = {
        "label": "run", "workdir": "folder", "model": "net", "dropclass": True, "seed": 0,
        "step": 2,
        "classifier": {
            "similarity": square, "mean_similarity": [0.1, 0.2, 0.3],
            "rank_correlation_with_pixels": {"rho": 0.5, "n": 3, "p": 0.0001},
        },
        "selection": {
            "features": 9, "selected_share": [0.5] * K, "classes_per_feature": [1, 2, 3], "top": 1,
            "top_overlap": square,
        },
        "feature_similarity": {"features": square, "features_drop": square},
        "dependence": {"drop": effect, "plain": effect},
        "context_gap": {
            "head": "drop", "splits": ["val", "val_out"], "inside": [0.5] * K,
            "outside": [0.4] * K, "gap": [0.1] * K,
        },
    }  # fmt: skip
    content = hostile(
        {
            "dataset": "data", "split": "part", "images": 9, "region": "label", "classes": classes,
            "command": "command", "versions": {"jax": "1"},
            "runs": [run, {**run, "label": "other"}],
        }
    )  # fmt: skip
    for evil in content["runs"]:
        evil["grad_cam"] = {classes[0]["name"] + EVIL: [image]}
    analysis_page.write(tmp_path, content, {})
    text = runs_nothing((tmp_path / "report.html").read_text())
    for words in ("data", "part", "command", "run", "folder", "net", "class 0", "val_out", "jax 1"):
        assert words + EVIL in text
    assert "p < 0.001" in text


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
