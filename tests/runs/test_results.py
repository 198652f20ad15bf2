"""What is written of evaluations, and what of earlier ones is kept."""

import csv
import json
import types

import numpy as np
import pytest

from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.evaluation import inference, loop
from dropclass_jax.experiment import facts
from dropclass_jax.experiment.config import load_config
from dropclass_jax.reporting import table
from dropclass_jax.runs import results

CLASSES = ("road", "car", "sign", "ghost")
PIXELS = np.array([900, 95, 5, 0])
FLIP = inference.Views(flip=True)


@pytest.fixture
def config():
    return load_config("configs/streets.py:tiny")


@pytest.fixture
def dataset():
    """As much of one as is written of it."""
    info = DatasetInfo("fake", CLASSES, ((1, 2, 3),) * 4, train_pixels=tuple(PIXELS.tolist()))
    return types.SimpleNamespace(
        info=info, counted_info=info, splits={"train": (), "val": (), "test": ()}
    )


LABELS = np.array([[40, 90, 30, 0], [60, 20, 80, 0], [50, 50, 50, 0]])  # [N, K]


def evaluation(seed, ids=("a", "b"), heads=("plain", "drop"), samples=1, labels=LABELS):
    """Counts of a few images that add up, as an evaluation's do."""
    rng = np.random.default_rng(seed)
    confusions, counts = {}, {}
    for head in heads:
        each = rng.multinomial(labels[: len(ids)], (0.4, 0.3, 0.3, 0.0))  # [N, K, K]
        counts[head] = np.stack([np.diagonal(each, 0, 1, 2), each.sum(2), each.sum(1)], axis=-1)
        confusions[head] = each.sum(axis=0)
    boundaries = {head: np.array([[1, 2], [1, 4], [0, 3], [0, 0]]) for head in heads}
    sample = {name: np.full((4, 6), 1, np.uint8) for name in ("label", "prediction")}
    sample |= {"image": np.zeros((4, 6, 3), np.uint8), "id": f"picture {seed}"}
    return loop.Evaluation(confusions, boundaries, np.array(ids), counts, [sample] * samples)


@pytest.fixture
def write(tmp_path, config, dataset):
    def write(evaluations, step=12, **settings):
        content = results.write(tmp_path, facts.of(config), dataset, step, evaluations, **settings)
        table.write_csv(tmp_path / "metrics.csv", content)
        return json.loads((tmp_path / "metrics.json").read_text())

    return write


def keys(entries):
    return [(e["split"], e["head"], e["inference"]) for e in entries]


def test_an_entry_has_every_score(write):
    found = evaluation(0)
    entry = write({"val": found})["results"][1]
    confusion = found.confusions["plain"]
    hits, labelled, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    iou = hits[:3] / (labelled + predicted - hits)[:3]
    np.testing.assert_allclose(entry["iou"][:3], iou)
    np.testing.assert_allclose(entry["f1"][:3], 2 * iou / (1 + iou))
    assert entry["iou"][3] is entry["f1"][3] is entry["boundary_iou"][3] is None
    assert entry["boundary_iou"][:3] == [0.5, 0.25, 0]
    assert entry["mean_boundary_iou"] == 0.25
    assert entry["groups"] == pytest.approx({"head": iou[0], "medium": iou[1], "tail": iou[2]})
    assert entry["images"] == 2


def test_other_splits_heads_and_views_are_kept(write, tmp_path):
    first = write({"val": evaluation(0), "test": evaluation(1)})
    second = write({"val": evaluation(2)}, heads=("plain",), views=FLIP)
    assert second["results"] == first["results"]
    assert keys(second["view_results"]) == [("val", "plain", "whole, flip")]
    third = write({"val": evaluation(3)}, heads=("drop",))
    assert third["view_results"] == second["view_results"]
    assert keys(third["results"]) == [
        (split, head, "whole") for split in ("val", "test") for head in ("drop", "plain")
    ]
    changed = [a != b for a, b in zip(third["results"], first["results"], strict=True)]
    assert changed == [True, False, False, False]
    fourth = write({"val": evaluation(4)}, heads=("plain",), views=FLIP)
    assert keys(fourth["view_results"]) == keys(second["view_results"])
    assert fourth["view_results"] != second["view_results"]
    with open(tmp_path / "metrics.csv") as file:
        rows = [(row["split"], row["inference"]) for row in csv.DictReader(file)]
    assert len(rows) == 4 * (4 + 1)
    assert rows[-1] == ("val", "whole, flip")


def test_results_of_another_step_are_not_kept(write, tmp_path):
    write({"val": evaluation(0), "test": evaluation(1)})
    content = write({"test": evaluation(2)}, step=8, views=FLIP)
    assert content["results"] == []
    assert keys(content["view_results"]) == [
        ("test", "drop", "whole, flip"),
        ("test", "plain", "whole, flip"),
    ]
    assert not (tmp_path / "images.npz").exists()
    content = write({"val": evaluation(0)}, step=9)
    assert content["view_results"] == []
    for name in ("images.npz", "samples.npz"):
        assert {key.split("/")[0] for key in np.load(tmp_path / name)} == {"val"}


def test_counts_of_every_image(write, tmp_path):
    first, second = evaluation(0), evaluation(1)
    write({"val": first, "test": second})
    write({"val": evaluation(2)}, heads=("plain",), views=FLIP)  # of other views there are none
    third = evaluation(3)
    write({"val": third}, heads=("plain",))
    with np.load(tmp_path / "images.npz") as arrays:
        arrays = dict(arrays)
    assert sorted(arrays) == sorted(
        f"{split}/{name}"
        for split in ("val", "test")
        for name in ("ids", "plain/counts", "drop/counts")
    )
    np.testing.assert_array_equal(arrays["val/ids"], ["a", "b"])
    np.testing.assert_array_equal(arrays["val/drop/counts"], first.counts["drop"])
    np.testing.assert_array_equal(arrays["val/plain/counts"], third.counts["plain"])
    np.testing.assert_array_equal(arrays["test/plain/counts"], second.counts["plain"])


def test_a_split_that_is_gone_from_the_data_keeps_its_scores(write, dataset):
    dataset.splits = {"train": (), "a_test": (), "val": ()}
    before = write({"a_test": evaluation(0), "val": evaluation(1)})
    del dataset.splits["a_test"]
    after = write({"val": evaluation(2)})
    splits = [split for split, _, _ in keys(after["results"])]
    assert splits == ["val", "val", "a_test", "a_test"]
    assert after["results"][2:] == before["results"][:2]


@pytest.mark.parametrize("views", [inference.WHOLE, FLIP])
@pytest.mark.parametrize(
    ("changed", "how"),
    [
        ({"ids": ("a", "b", "c")}, "on different images"),
        ({"labels": LABELS + 1}, "by different labels"),
        ({"labels": LABELS[::-1][1:]}, "by different labels"),  # of the same pixels in all
    ],
)
def test_scores_of_other_images_or_labels_do_not_stay_beside_new_ones(
    changed, how, views, write, tmp_path, capsys
):
    """As when the labels were corrected before one head is evaluated again."""
    before = write({"val": evaluation(0), "test": evaluation(1)})
    write({"val": evaluation(2), "test": evaluation(3)}, views=inference.Views(scales=(2.0,)))
    capsys.readouterr()
    content = write({"val": evaluation(4, **changed)}, heads=("plain",), views=views)
    said = f"{tmp_path}: the earlier scores of val were made {how}: dropped\n"
    assert capsys.readouterr().out == said
    entries = content["results"] + content["view_results"]
    name = inference.describe(views)
    assert [key for key in keys(entries) if key[0] == "val"] == [("val", "plain", name)]
    assert [e for e in content["results"] if e["split"] == "test"] == before["results"][2:]
    whole = views == inference.WHOLE
    with np.load(tmp_path / "images.npz") as arrays:
        heads = {key.split("/")[1] for key in arrays if key.startswith("val/")}
        assert heads == ({"ids", "plain"} if whole else set())
    assert list(results.read_samples(tmp_path)) == (["test", "val"] if whole else ["test"])
    write({"val": evaluation(5, **changed)}, heads=("drop",), views=views)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kept", [0, 1, 300, -40])
def test_counts_and_samples_that_cannot_be_read_are_made_anew(kept, write, tmp_path):
    """By the evaluation that ``compare`` then asks for."""
    write({"val": evaluation(0), "test": evaluation(1)})
    files = [tmp_path / "images.npz", tmp_path / "samples.npz"]
    for path in files:
        path.write_bytes(path.read_bytes()[:kept])
    assert results.read_samples(tmp_path) == {}
    content = write({"val": evaluation(2)})
    assert len(content["results"]) == 4
    for path in files:
        with np.load(path) as arrays:
            assert {key.split("/")[0] for key in arrays} == {"val"}


def test_tables_of_other_views_compare_with_whole_images(write, capsys):
    write({"val": evaluation(0)})
    content = write({"val": evaluation(1)}, views=FLIP)
    table.print_tables(content, views=FLIP)
    shown = capsys.readouterr().out
    assert "val, drop head, 2 images, whole, flip; baseline: val, drop head (" in shown
    assert "plain head" not in shown
    table.print_tables(content, heads=("plain",))
    shown = capsys.readouterr().out
    assert "val, plain head, 2 images (" in shown
    assert "flip" not in shown
