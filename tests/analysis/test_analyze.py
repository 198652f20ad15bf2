"""The command as its user runs it, on networks of two convolutions, and what it says and draws."""

import json
import re
import shutil
import types
from html import unescape

import numpy as np
import pytest
from html_page import Page
from matplotlib.colors import to_rgba
from report_fixture import CAMVID, classes_of, write_run

from dropclass_jax import analyze, train
from dropclass_jax.analysis.explain import Explained
from dropclass_jax.errors import UserError
from dropclass_jax.experiment import facts
from dropclass_jax.experiment.config import load_config
from dropclass_jax.files import write_json
from dropclass_jax.reporting import analysis_figures as figures
from dropclass_jax.reporting import analysis_wording as wording
from dropclass_jax.reporting import cam_figures

CLASSES = classes_of(CAMVID)


@pytest.fixture
def runs(tmp_path, named_tiny, no_page):
    """A run of two steps with DropClass, and a plain one: the same without its drop path."""
    config = load_config("configs/streets.py:tiny")
    config.data.prepared_dir = str(tmp_path / "prepared")
    config.data.options.update(train=8, val=4, val_out=4)
    config.augment.crop = (32, 48)
    config.total_steps = 2
    config.model.remat = "blocks"
    ours, plain = tmp_path / "dropclass" / "seed0", tmp_path / "plain" / "seed0"
    assert train.train(config, ours) == 0
    shutil.copytree(ours, plain)
    config.dropclass.enabled = False
    write_json(plain / "config.json", config.to_dict())
    metrics = json.loads((plain / "metrics.json").read_text())
    metrics["results"] = [entry for entry in metrics["results"] if entry["head"] == "plain"]
    write_json(plain / "metrics.json", {**metrics, "dropclass": False})
    return {"plain": plain, "dropclass": ours}


def test_two_runs_side_by_side(runs, tmp_path, capsys):
    out = tmp_path / "analysis"
    plain, dropclass = map(str, runs.values())
    options = analyze.Options(classes=["car", "bus"], cam_images=2)
    analyze.analyze([plain, f"ours={dropclass}"], out, options)

    content = json.loads((out / "analysis.json").read_text())
    assert (content["split"], content["images"]) == ("val", 4)
    first, second = content["runs"]
    assert (first["label"], second["label"]) == ("plain", "ours")
    assert set(first["dependence"]) == {"plain"}
    assert set(second["dependence"]) == {"drop", "plain"}
    assert set(second["feature_similarity"]) == {"features", "features_drop"}
    for run in content["runs"]:
        assert run["step"] == 2
        alike = np.array(run["classifier"]["similarity"])
        np.testing.assert_allclose(alike, alike.T)
        np.testing.assert_allclose(np.diag(alike), 1)
        assert run["classifier"]["rank_correlation_with_pixels"]["n"] == 19
        assert sum(run["selection"]["classes_per_feature"]) == round(
            sum(run["selection"]["selected_share"]) * 12
        )
        metrics = json.loads((tmp_path / run["workdir"] / "metrics.json").read_text())
        scores = {(entry["split"], entry["head"]): entry["iou"] for entry in metrics["results"]}
        own = "drop" if run["dropclass"] else "plain"
        assert run["context_gap"]["inside"] == scores["val", own]
        for head, about in run["dependence"].items():  # all of the split, as it was evaluated
            for k, iou in enumerate(about["iou"]):
                assert iou is None or iou == pytest.approx(scores["val", head][k])
        assert sum(iou is not None for iou in about["iou"]) > 10
        assert list(run["grad_cam"]) == ["car", "bus"]
        for image in run["grad_cam"]["car"]:
            assert 0 < image["share_of_image"] < 1
            assert next(iter(image["heat_on_class"])) == "features"

    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert len(page.ids) == len(set(page.ids))
    for words in ("Who leans on whom", "ours", "4 images of val", "rank correlation", "car"):
        assert words in page.text
    for name in ("dependence_ours_drop", "classifier_similarity", "context_gap", "heat_car"):
        assert (out / f"{name}.png").stat().st_size > 5000

    # Mistakes, before any work.
    def refuses(words, *names, **changed):
        with pytest.raises(UserError, match=words):
            analyze.analyze(list(names), out, analyze.Options(**changed))

    refuses("name the folder of one run")
    refuses("holds no run", str(tmp_path / "nowhere"))
    refuses("no split 'test'", plain, split="test")
    refuses("unknown class 'buss'; did you mean bus?", plain, classes=["buss"])
    refuses("two runs are called 'a'", f"a={plain}", f"a={dropclass}")
    refuses("is neither a run's folder nor LABEL=RUN", "a=")
    refuses("too many side by side", *[plain] * 7)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        analyze.analyze([plain], tmp_path / "file", analyze.Options(images=1))
    data = json.loads((runs["plain"] / "data.json").read_text())
    data["classes"][0] = "street"
    write_json(runs["plain"] / "data.json", data)
    refuses(r"run DropClass is of other classes .* as plain: analyse", plain, dropclass)
    data["name"] = "city"
    write_json(runs["plain"] / "data.json", data)
    refuses(r"of data set streets, not city", plain, dropclass)


def test_labels_are_the_shortest_that_tell_runs_apart(tmp_path):
    class Network:
        def __init__(self, path, dropclass):
            self.workdir = tmp_path / path
            config = load_config("configs/streets.py")
            config.dropclass.enabled = dropclass
            self.facts = facts.of(config)

    plain, ours, other = Network("a/s0", False), Network("b/s0", True), Network("b/s1", True)
    nothing = [None, None]
    assert analyze.label_runs(nothing, [plain, ours]) == ["plain", "DropClass"]
    assert analyze.label_runs(nothing, [ours, other]) == ["s0", "s1"]
    assert analyze.label_runs([None] * 3, [plain, ours, other]) == ["a/s0", "b/s0", "b/s1"]
    assert analyze.label_runs(["x", None], [plain, ours]) == ["x", "DropClass"]
    assert analyze.split_label("base=runs/a") == ("base", analyze.Path("runs/a"))
    (tmp_path / "lr=1").mkdir()
    assert analyze.split_label(f"{tmp_path}/lr=1")[0] is None


def test_the_gap_is_of_the_step_that_is_analysed(tmp_path):
    run = write_run(tmp_path / "run", CAMVID, samples=0)
    here, earlier = (types.SimpleNamespace(workdir=run, step=step) for step in (600, 300))
    assert analyze.context_gap(here)["splits"] == ["val", "val_out"]
    assert analyze.context_gap(earlier) is None
    (run / "metrics.json").unlink()
    assert analyze.context_gap(here) is None


def run_of(change, iou, clear=None, head="drop", label="it") -> dict:
    """A run whose intervals reach a point to either side; none for ``clear`` None."""
    half = np.nan if clear is None else 0.01
    effect = {"iou": iou, "change": change, "low": change - half, "high": change + half}
    effect["clear"] = np.zeros(change.shape, bool) if clear is None else clear
    return {"label": label, "dropclass": True, "dependence": {head: effect}}


def plain_text(html: str) -> str:
    return unescape(re.sub("<.*?>", "", html))


def test_dependence_in_words():
    change = np.full((11, 11), np.nan)
    change[:3, :3] = [[-0.5, -0.2, 0], [0, -0.3, -0.01], [0, 0, -0.1]]
    iou = [0.5, 0.3, 0.1, *[None] * 8]
    text = plain_text(wording.dependence(run_of(change, iou), "drop", CLASSES))
    assert "mean IoU 30.0%" in text
    assert "left out itself, a class loses 30.0 points" in text
    assert "another one is left out, it loses 3.50 points" in text
    assert "too few to tell changes from noise: all are shown" in text
    assert "hardly tells" not in text
    clear = np.abs(np.nan_to_num(change)) > 0.02
    text = plain_text(wording.dependence(run_of(change, iou, clear), "drop", CLASSES))
    assert "Of the 6 changes by another class's absence 1 are more than noise" in text
    assert "The strongest: without Sky, Building loses 20.0 points (19.0 to 21.0)." in text
    assert "Pole loses" not in text
    change[range(3), range(3)] = -0.01
    text = plain_text(wording.dependence(run_of(change, iou), "drop", CLASSES))
    assert "hardly tells that a class is left out: it still keeps 97% of its IoU" in text
    change[:3, :3] = 0.0
    text = plain_text(wording.dependence(run_of(change, iou, change > 0), "drop", CLASSES))
    assert "No class clearly loses half a point" in text


@pytest.mark.parametrize(
    ("rho", "p", "words"),
    [
        (-0.7, 0.001, "the rarer a class, the more"),
        (0.7, 0.001, "the commoner a class, the more"),
        (-0.2, 0.4, "no clear order"),
    ],
)
def test_correlation_in_words(rho, p, words):
    rank = {"rho": rho, "n": 11, "p": p}
    about = {"mean_similarity": list(range(11)), "rank_correlation_with_pixels": rank}
    text = plain_text(wording.correlation({"label": "it", "classifier": about}, CLASSES))
    assert words in text
    assert "n = 11 classes" in text
    assert "least like the others is Sky (+0.00), most Bicyclist (+10.00)" in text


def test_one_network_is_not_a_finding_either():
    assert "call what you see a property of the method" in wording.caution([{}])
    assert "several seeds of each" in wording.caution([{}, {}])


def test_a_gap_that_there_is_nothing_to_lose_of_is_said():
    gap = {"gap": [0.1] * 11, "inside": [0.5] * 9 + [0.0, 0.5]}
    text = plain_text(wording.gap({"label": "it", "context_gap": gap}, CLASSES))
    assert "a class loses 10.0 points of IoU on average" in text
    assert "Of the 2 tail classes 1 had hardly anything to lose" in text


def test_heat_maps_leave_out_classes_without_values_and_order_the_others():
    values = np.full((11, 11), np.nan)
    values[np.ix_([2, 3], [2, 3])] = [[0.1, 0.2], [-0.3, 0.4]]
    panel = figures.Panel("it", values)
    figure = figures.heat_maps([panel], CLASSES, "title", limit=0.4, ends=("low", "high"), scale=10)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Road", "Pole"]
    shown = np.asarray(axes.collections[0].get_array()).reshape(2, 2)
    np.testing.assert_array_equal(shown, [[0.4, -0.3], [0.2, 0.1]])
    assert [text.get_text() for text in axes.texts] == ["4", "−3", "2", "1"]


def test_heat_maps_leave_noise_blank_and_reach_full_colour_at_the_largest_value():
    values = np.full((11, 11), np.nan)
    values[:2, :2] = [[-0.9, 0.01], [0.02, 0.225]]
    panel = figures.Panel("it", values, values != 0.01)
    figure = figures.heat_maps(
        [panel], CLASSES, "title", limit=0.9, ends=("a", "b"), scale=100,
        norm=figures.root_norm(0.9),
    )  # fmt: skip
    mesh = figure.axes[0].collections[0]
    # By share Building comes before Sky.
    np.testing.assert_array_equal(mesh.get_array().reshape(2, 2).mask, [[0, 0], [1, 0]])
    np.testing.assert_allclose(mesh.norm([-0.9, -0.225, 0, 0.225, 0.9]), [0, 0.25, 0.5, 0.75, 1])
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["22", "2", "−90"]
    assert texts[2].get_color() == "#ffffff"


def test_nothing_is_drawn_where_nothing_changes():
    np.testing.assert_allclose(figures._DIVERGING(0.5)[3], 0, atol=0.01)
    np.testing.assert_allclose(figures._DIVERGING(1.0), to_rgba(figures.BLUE))
    np.testing.assert_allclose(figures._DIVERGING(0.0), to_rgba(figures.ORANGE))


def test_every_run_has_a_mark_of_its_own():
    for dropclass in ([True] * 6, [False] * 6, [True, False] * 3):
        runs = [{"label": n, "dropclass": d} for n, d in enumerate(dropclass)]
        assert len(set(figures.styles(runs).values())) == 6


def test_grid_stands_networks_under_each_other_and_leaves_out_layers_that_are_not_read():
    label = np.zeros((20, 40), int)
    label[5:10, 5:20] = 1

    def row(run, image_id, layers):
        example = {"id": image_id, "image": np.full((20, 40, 3), 100, np.uint8), "label": label}
        heat = {name: np.full((20, 40), value) for name, value in layers.items()}
        strides = dict.fromkeys(layers, 4)
        return cam_figures.row(run, example, 1, Explained(heat, label == 1, strides))

    plain = {"map 1": 0.0, "features": 2.0}
    rows = [row("a", i, plain) for i in "xy"]
    rows += [row("b", i, plain | {"features_drop": 3.0}) for i in "xy"]
    assert cam_figures.layers(rows) == ["features, stride 4", "features_drop, stride 4"]
    assert rows[0].heat["features, stride 4"].max() == 1
    figure = cam_figures.grid(rows, cam_figures.layers(rows), "pole", (10, 20, 30))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles == [
        *("a: finds 100%", "features, stride 4", "features_drop, stride 4"),
        *("b: finds 100%", "a: finds 100%", "b: finds 100%"),
    ]
    outlined = [bool(axes.collections) for axes in figure.axes]
    assert outlined == [True, True, False, True, True, True] * 2
    only = cam_figures.grid(rows, ["features_drop, stride 4"], "pole", (10, 20, 30))
    assert [bool(axes.collections) for axes in only.axes] == [True, False, True, True] * 2
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said == ["it has no such layer"] * 2
