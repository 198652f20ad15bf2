"""Boundary IoU against the published formula, mask by mask."""

import cv2
import jax
import numpy as np
import pytest

from dropclass_jax.evaluation import boundary

K, IGNORED = 4, 255
count = jax.jit(boundary.count, static_argnums=3)


def contour(mask, distance):
    """Of one class: the mask without what an erosion leaves of it, the image's border included."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=int(distance))
    return mask & (eroded[1:-1, 1:-1] == 0)


def blobs(rng, shape):
    """A map of classes in patches of all sizes, some too thin for an inside."""
    classes = np.zeros(shape, np.uint8)
    for _ in range(12):
        height, width = rng.integers(1, shape[0]), rng.integers(1, shape[1])
        top, left = rng.integers(shape[0]), rng.integers(shape[1])
        classes[top : top + height, left : left + width] = rng.integers(K)
    return classes


@pytest.fixture(scope="module")
def maps():
    """Labels with ignored patches, one image padded; predictions that share some of the patches."""
    rng = np.random.default_rng(0)
    labels = np.stack([blobs(rng, (33, 48)) for _ in range(5)])
    predictions = np.where(rng.random((5, 1, 48)) < 0.5, labels, np.roll(labels, 2, axis=2))
    labels[0, 4:12, 20:30] = IGNORED
    labels[1, 20:], labels[1, :, 31:] = IGNORED, IGNORED
    labels[2] = IGNORED
    return labels, predictions


def test_every_class_as_if_it_were_alone(maps):
    labels, predictions = maps
    distances = np.array([1, 2, 3, 7, 40], np.int32)
    expected = np.zeros((K, 2), np.int64)
    for label, prediction, distance in zip(labels, predictions, distances, strict=True):
        for k in range(K):
            truth = contour(label == k, distance)
            answer = contour((prediction == k) & (label != IGNORED), distance)
            expected[k] += (truth & answer).sum(), (truth | answer).sum()
    assert (expected[:, 0] > 0).all()
    assert (expected[:, 0] < expected[:, 1]).all()
    got = count(labels, predictions, distances, K)
    np.testing.assert_array_equal(got, expected)


def test_a_distance_beyond_the_image_gives_the_iou(maps):
    labels, predictions = maps
    counts = np.asarray(count(labels, predictions, np.full(5, 99, np.int32), K))
    known = labels != IGNORED
    for k in range(K):
        truth, answer = labels == k, (predictions == k) & known
        assert tuple(counts[k]) == ((truth & answer).sum(), (truth | answer).sum())


def test_a_perfect_prediction_scores_one_beside_ignored_pixels(maps):
    labels, _ = maps
    answer = np.where(labels == IGNORED, 1, labels)
    counts = np.asarray(count(labels, answer, np.full(5, 2, np.int32), K))
    np.testing.assert_array_equal(boundary.scores(counts)["boundary_iou"], np.ones(K))


def test_an_outline_that_is_off_costs_more_than_the_iou_says():
    label = np.zeros((1, 40, 40), np.uint8)
    label[:, 10:30, 10:30] = 1
    prediction = np.roll(label, 1, axis=1)
    counts = np.asarray(count(label, prediction, np.array([1], np.int32), 2))
    # Of 76 pixels of each outline, the left and right sides but for one end each are shared, and
    # nothing of the top and the bottom but their ends.
    assert tuple(counts[1]) == (38, 114)
    assert boundary.scores(counts)["boundary_iou"][1] == pytest.approx(1 / 3)


def test_absent_classes_have_none():
    scores = boundary.scores(np.array([[3, 4], [0, 5], [0, 0]]))
    np.testing.assert_array_equal(scores["boundary_iou"], [0.75, 0, np.nan])
    assert scores["mean_boundary_iou"] == 0.375


def test_the_distance_is_two_percent_of_the_diagonal():
    sizes = np.array([[1024, 2048], [480, 640], [3, 4], [0, 0]])
    np.testing.assert_array_equal(boundary.distance(sizes), [46, 16, 1, 1])
    assert boundary.distance(np.array([1024, 2048]), 0.005) == 11
