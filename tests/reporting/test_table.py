"""The tables say exactly what the confusion matrix says."""

import csv

import numpy as np
import pytest
from report_fixture import entry_of

from dropclass_jax.evaluation import summary
from dropclass_jax.reporting import table

# Rows are labels. `ghost` is neither labelled nor predicted; `rare` is never predicted; `phantom`
# is predicted but never the label.
CLASSES = [
    {"name": "rare", "color": [1, 2, 3], "train_pixels": 5, "train_pixel_share": 0.005},
    {"name": "road", "color": [4, 5, 6], "train_pixels": 900, "train_pixel_share": 0.9},
    {"name": "car", "color": [7, 8, 9], "train_pixels": 90, "train_pixel_share": 0.09},
    {"name": "ghost", "color": [0, 0, 0], "train_pixels": 3, "train_pixel_share": 0.003},
    {"name": "phantom", "color": [9, 9, 9], "train_pixels": 2, "train_pixel_share": 0.002},
]
CONFUSION = [
    [0, 10, 0, 0, 0],
    [0, 60, 10, 0, 0],
    [0, 5, 10, 0, 5],
    [0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0],
]
ENTRY = entry_of(CONFUSION, "val", "drop", images=7)
BETTER = entry_of(np.diag([10, 70, 20, 0, 0]), "val", "plain", images=7)


def cells(text: str) -> dict[str, list[str]]:
    """The rows of a text table by their first column; columns are two or more blanks apart."""
    rows = (line.strip().split("  ") for line in text.splitlines())
    return {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}


def test_class_table_has_every_number_commonest_class_first():
    text = table.class_table(ENTRY, CLASSES)
    rows = cells(text)
    # road: 60 right of 70 labelled and 75 predicted, union 85; car: 10 of 20 and 20, union 30.
    assert rows["road"] == ["90.00", "70.00", "70.6", "85.7", "80.0", "82.8", "42.4"]
    assert rows["car"] == ["9.00", "20.00", "33.3", "50.0", "50.0", "50.0", "20.0"]
    assert rows["rare"] == ["0.50", "10.00", "0.0", "0.0", "-", "0.0", "0.0"]
    assert rows["ghost"] == ["0.30", "0.00", "-", "-", "-", "-", "-"]
    assert rows["phantom"] == ["0.20", "0.00", "0.0", "-", "0.0", "0.0", "0.0"]
    order = [name for name in rows if name in {about["name"] for about in CLASSES}]
    assert order == ["road", "car", "rare", "ghost", "phantom"]
    assert rows["mean IoU"] == ["26.0"]  # (60/85 + 1/3 + 0 + 0) / 4
    assert rows["head classes (1)"] == ["70.6"]
    assert rows["medium classes (1)"] == ["33.3"]
    assert rows["tail classes (2)"] == ["0.0"]
    assert "mean IoU over the 4 classes present" in text
    # 0.7 * 60/85 + 0.2 * 1/3 + 0.1 * 0
    assert "pixel accuracy 70.0; frequency-weighted IoU 56.1; mean accuracy 45.2" in text
    assert "; mean boundary IoU 15.6" in text


def test_results_of_an_older_version_have_fewer_columns(tmp_path):
    older = {k: v for k, v in ENTRY.items() if k not in ("f1", "inference") and "bound" not in k}
    assert cells(table.class_table(older, CLASSES))["car"] == [
        *("9.00", "20.00", "33.3", "50.0", "50.0"),
    ]
    table.write_csv(tmp_path / "metrics.csv", {"classes": CLASSES, "results": [older]})
    with open(tmp_path / "metrics.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["inference"], row["f1"], row["boundary_iou"]) == ("whole", "", "")


def test_a_difference_that_rounds_to_nothing_has_no_sign_of_loss():
    assert table.difference(0.5, 0.50001) == table.difference(0.5, 0.5) == "0.0"
    assert table.difference(0.5, 0.501) == "-0.1"


def test_other_views_are_named():
    slid = {**ENTRY, "inference": "slide 8x8/4x4, flip"}
    title = table.class_table(slid, CLASSES, baseline=ENTRY).splitlines()[0]
    assert title.startswith("val, drop head, 7 images, slide 8x8/4x4, flip; baseline: val, drop ")


def test_class_table_explains_its_dashes():
    text = table.class_table(ENTRY, CLASSES)
    assert "'-' in IoU: absent from val, left out of the mean: ghost" in text
    assert "'-' in accuracy: predicted, but no pixel has this label" in text
    assert "'-' in precision: never predicted" in text
    complete = entry_of(np.ones((5, 5)), "val", "drop")
    assert "'-'" not in table.class_table(complete, CLASSES)


def test_class_table_compares_with_a_baseline():
    rows = cells(table.class_table(ENTRY, CLASSES, baseline=BETTER))
    assert rows["road"][-2:] == ["100.0", "-29.4"]
    assert rows["ghost"][-2:] == ["-", "-"]
    assert rows["phantom"][-2:] == ["-", "-"]
    assert rows["mean IoU"] == ["26.0", "100.0", "-74.0"]
    assert rows["tail classes (2)"] == ["0.0", "100.0", "-100.0"]


def test_class_table_lines_up():
    lines = table.class_table(ENTRY, CLASSES, baseline=BETTER).splitlines()
    rule = lines[2]
    assert set(rule) == {"-"}
    assert {len(line) for line in lines[1:8]} == {len(rule)}


def test_context_gap_table():
    outside = entry_of(np.diag([0, 70, 20, 0, 0]), "val_out", "drop")
    text = table.context_gap_table(BETTER, outside, CLASSES)
    assert cells(text)["road"] == ["90.00", "100.0", "100.0", "0.0"]
    rows = cells(table.context_gap_table(outside, ENTRY, CLASSES))
    assert rows["car"] == ["9.00", "100.0", "33.3", "+66.7"]
    assert rows["rare"] == ["0.50", "-", "0.0", "-"]
    assert rows["mean (2 classes)"] == ["100.0", "52.0", "+48.0"]


def test_csv_has_one_exact_row_per_split_head_and_class(tmp_path):
    table.write_csv(
        tmp_path / "metrics.csv",
        {"classes": CLASSES, "results": [ENTRY], "view_results": [{**BETTER, "inference": "flip"}]},
    )
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["head"], row["class"]) for row in rows[4:6]] == [
        ("drop", "phantom"),
        ("plain", "road"),
    ]
    assert [row["inference"] for row in rows] == ["whole"] * 5 + ["flip"] * 5
    assert tuple(rows[0]) == table.CSV_COLUMNS
    road, ghost = rows[0], rows[3]
    assert float(road["iou"]) == 60 / 85
    assert float(road["accuracy"]) == 60 / 70
    assert float(road["f1"]) == 120 / 145
    assert float(road["boundary_iou"]) == 0.6 * 60 / 85
    assert (road["group"], road["split_pixels"], road["train_pixels"]) == ("head", "70", "900")
    assert float(road["split_pixel_share"]) == 0.7
    assert (ghost["class"], ghost["iou"], ghost["accuracy"]) == ("ghost", "", "")


@pytest.mark.parametrize(
    ("share", "group"),
    [(0.1, "head"), (0.0999, "medium"), (0.01, "medium"), (0.00999, "tail"), (0.0, "tail")],
)
def test_groups_at_their_edges(share, group):
    assert summary.group_of(share) == group


def test_group_without_a_present_class_has_no_mean():
    only_road = entry_of(np.diag([0, 70, 0, 0, 0]), "val", "drop")
    means = summary.group_means(only_road, CLASSES)
    assert means == {"head": (1.0, 1), "medium": (None, 0), "tail": (None, 0)}


def test_what_the_confusion_matrix_gives_away():
    assert summary.constant_answer(ENTRY) == (1, pytest.approx(0.7 / 3))
    assert summary.never_predicted(ENTRY) == [0]
    assert summary.never_right(ENTRY) == [4]
    assert summary.absent(ENTRY) == [3]
    assert summary.top_confusions(ENTRY, 2) == [(0, 1, 1.0), (2, 1, 0.25)]


def test_constant_answer_is_the_score_of_that_answer():
    always_road = np.zeros((5, 5))
    always_road[:, 1] = np.sum(CONFUSION, 1)
    best, mean_iou = summary.constant_answer(ENTRY)
    assert best == 1
    assert mean_iou == pytest.approx(entry_of(always_road, "val", "drop")["mean_iou"])
