"""Charts and pictures show the numbers they were given."""

import numpy as np
import pytest
from matplotlib.text import Text
from report_fixture import STREETS, classes_of, confusion_of, entry_of

from dropclass_jax.reporting import figures, page, pictures

CLASSES = [
    {"name": "rare", "color": [10, 20, 30], "train_pixels": 1, "train_pixel_share": 0.001},
    {"name": "road", "color": [200, 0, 0], "train_pixels": 949, "train_pixel_share": 0.949},
    {"name": "ghost", "color": [0, 0, 200], "train_pixels": 50, "train_pixel_share": 0.05},
]
ENTRY = entry_of([[3, 1, 0], [2, 8, 0], [0, 0, 0]], "val", "drop")
COLORS = [about["color"] for about in CLASSES]


def test_colorize_paints_classes_and_leaves_ignored_pixels_black():
    painted = pictures.colorize(np.array([[0, 1], [255, 2]], np.uint8), COLORS)
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted, [[[10, 20, 30], [200, 0, 0]], [[0, 0, 0], [0, 0, 200]]])


def test_colorize_takes_batches_and_another_ignore_label():
    painted = pictures.colorize(np.full((2, 1, 1), -1), COLORS, ignore_label=-1)
    np.testing.assert_array_equal(painted, np.zeros((2, 1, 1, 3)))


@pytest.mark.parametrize("value", [3, 254, -1])
def test_colorize_refuses_a_label_without_a_colour(value):
    with pytest.raises(ValueError, match=r"0\.\.2 or 255"):
        pictures.colorize(np.array([[0, value]]), COLORS)


def test_overlay_blends_and_keeps_the_image_where_there_is_no_label():
    image = np.full((1, 2, 3), 100, np.uint8)
    blended = pictures.overlay(image, np.array([[1, 255]]), COLORS, opacity=0.25)
    np.testing.assert_array_equal(blended, [[[125, 75, 75], [100, 100, 100]]])
    assert blended.dtype == np.uint8


def test_hatch_marks_only_the_mask():
    picture = np.full((6, 6, 3), 7, np.uint8)
    mask = np.zeros((6, 6), bool)
    mask[2:] = True
    hatched = pictures.hatch(picture, mask, period=3)
    assert (hatched[:2] == 7).all()
    assert set(np.unique(hatched[2:])) == {0, 110}


def test_confusion_is_row_normalised_and_ordered_by_share_without_absent_classes():
    axes = figures.confusion(ENTRY, CLASSES).axes[0]
    shown = np.asarray(axes.collections[0].get_array()).reshape(2, 2)
    np.testing.assert_allclose(shown, [[0.8, 0.2], [0.25, 0.75]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["road", "rare"]
    assert [text.get_text() for text in axes.texts] == ["80", "20", "25", "75"]


def test_bars_stand_side_by_side_commonest_class_on_top():
    other = entry_of(np.diag([4, 10, 0]), "val", "plain")
    axes = figures.iou_bars([ENTRY, other], CLASSES).axes[0]
    drop, plain = axes.containers
    np.testing.assert_allclose([bar.get_width() for bar in drop], [8 / 11, 0, 0.5])
    np.testing.assert_allclose([bar.get_width() for bar in plain], [1, 0, 1])
    names = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    assert names == ["road", "ghost", "rare"]
    assert [text.get_text() for text in axes.texts].count("absent") == 2
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_context_gap_joins_pairs_only_where_both_exist():
    outside = entry_of(np.diag([4, 10, 5]), "val_out", "drop")
    axes = figures.context_gap(ENTRY, outside, CLASSES).axes[0]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [
        (1.0, pytest.approx(8 / 11)),
        (1.0, 0.5),
    ]
    assert [text.get_text() for text in axes.texts] == ["+27", "absent from val", "+50"]


def test_scatter_labels_do_not_overlap_and_stay_inside():
    classes = classes_of(STREETS)
    entry = entry_of(confusion_of(classes, 0.9, seed=0), "val", "drop")
    figure = figures.iou_against_share(entry, classes)
    figure.canvas.draw()
    axes = figure.axes[0]
    labels = [text for text in axes.texts if text.get_text() in STREETS]
    assert len(labels) == len(STREETS)
    # An annotation's own extent includes its leader line.
    boxes = [Text.get_window_extent(label).padded(-1) for label in labels]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_names_of_classes_at_0_stand_apart_under_their_dots():
    classes = classes_of(STREETS)
    rare = [k for k, c in enumerate(classes) if c["train_pixel_share"] < 0.01]
    entry = entry_of(confusion_of(classes, 0.9, seed=0), "val", "drop")
    entry["iou"] = [0.0 if k in rare else iou for k, iou in enumerate(entry["iou"])]
    figure = figures.iou_against_share(entry, classes)
    figure.canvas.draw()
    axes = figure.axes[0]
    labels = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
    assert STREETS.keys() <= labels.keys()
    boxes = [labels[classes[k]["name"]] for k in rare]
    foot = axes.transData.transform((1, 0))[1]
    assert all(box.y1 < foot and box.y0 > axes.get_window_extent().y0 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    by_share = sorted(rare, key=lambda k: classes[k]["train_pixel_share"])
    left = [labels[classes[k]["name"]].x0 for k in by_share]
    assert left == sorted(left)


def test_a_chart_of_few_classes_is_not_blown_up():
    html = page.vector(figures.confusion(ENTRY, CLASSES), "small", "two classes")
    width = 96 * figures.confusion(ENTRY, CLASSES).get_figwidth()
    assert f"--natural: {width:.0f}px" in html
    assert width < 300


def test_scatter_shows_a_class_that_training_never_had():
    classes = [CLASSES[0] | {"train_pixel_share": 0.0}, *CLASSES[1:]]
    axes = figures.iou_against_share(ENTRY, classes).axes[0]
    assert "rare (not in training)" in [text.get_text() for text in axes.texts]


def test_curves_draw_the_latest_line_of_a_step_and_only_what_was_logged():
    lines = [
        {"kind": "train", "step": 10, "loss": 9.0, "lr": 0.1},
        {"kind": "train", "step": 20, "loss": 1.0, "lr": 0.05},
        {"kind": "train", "step": 10, "loss": 2.0, "lr": 0.1},
        {"kind": "eval", "step": 20, "split": "val", "head": "plain", "mean_iou": 0.3},
        {"kind": "eval", "step": 10, "split": "val", "head": "plain", "mean_iou": None},
    ]
    figure = figures.curves(lines)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Loss terms", "Mean IoU at each evaluation", "Learning rate"]
    loss, iou = figure.axes[0].lines[0], figure.axes[1].lines[0]
    assert (list(loss.get_xdata()), list(loss.get_ydata())) == ([10, 20], [2.0, 1.0])
    np.testing.assert_array_equal(np.asarray(iou.get_ydata(), float), [np.nan, 0.3])


def test_curves_show_how_often_a_class_was_dropped_beside_its_chance():
    line = {"kind": "train", "loss": 1.0, "suppression": 0.1}
    lines = [
        line | {"step": 10 * n, "lambda": 1 - n / 4, "p": n / 4, "dropped": share}
        for n, share in enumerate((0.0, 0.3, 0.4, 0.8))
    ]
    (axes,) = (a for a in figures.curves(lines).axes if "Schedules" in a.get_title(loc="left"))
    drawn = {line.get_label().split(":")[0]: list(line.get_ydata()) for line in axes.lines}
    assert drawn["dropped"] == [0.0, 0.3, 0.4, 0.8]
    assert drawn["p"] == [0.0, 0.25, 0.5, 0.75]


def test_curves_of_an_empty_log():
    assert figures.curves([]).axes == []
