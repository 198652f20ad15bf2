"""The confusion matrix and its scores, exact."""

import jax
import numpy as np
import reference

from dropclass_jax.evaluation import metrics


def test_scores_of_a_matrix_by_hand():
    # True class 0: 3 right, 1 taken for 1. Class 1: 2 right. Class 2 is absent.
    scores = metrics.scores(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    np.testing.assert_allclose(scores["iou"], [3 / 4, 2 / 3, np.nan])
    np.testing.assert_allclose(scores["accuracy"], [3 / 4, 1, np.nan])
    np.testing.assert_allclose(scores["precision"], [1, 2 / 3, np.nan])
    np.testing.assert_allclose(scores["f1"], [6 / 7, 4 / 5, np.nan])
    np.testing.assert_array_equal(scores["pixels"], [4, 2, 0])
    np.testing.assert_allclose(scores["mean_iou"], (3 / 4 + 2 / 3) / 2)
    np.testing.assert_allclose(scores["mean_accuracy"], (3 / 4 + 1) / 2)
    np.testing.assert_allclose(scores["mean_f1"], (6 / 7 + 4 / 5) / 2)
    np.testing.assert_allclose(scores["pixel_accuracy"], 5 / 6)
    np.testing.assert_allclose(scores["frequency_weighted_iou"], 4 / 6 * 3 / 4 + 2 / 6 * 2 / 3)


def test_counts_of_a_matrix_by_hand():
    counts = metrics.class_counts(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(counts, [[3, 4, 3], [2, 2, 3], [0, 0, 0]])


def test_a_class_that_is_only_predicted_counts_as_zero():
    scores = metrics.scores(np.array([[3, 1], [0, 0]]))
    np.testing.assert_allclose(scores["iou"], [3 / 4, 0])
    np.testing.assert_allclose(scores["f1"], [6 / 7, 0])


def test_nothing_labelled_is_nan_not_an_error():
    scores = metrics.scores(np.zeros((3, 3), np.int64))
    assert np.isnan(scores["iou"]).all()
    assert np.isnan(scores["mean_iou"])


def test_counts_beyond_32_bits():
    scores = metrics.scores(np.diag([2**40, 2**40]))
    assert scores["mean_iou"] == 1.0
    assert scores["pixels"].sum() == 2**41


def test_the_reference_s_matrix_and_scores():
    arrays, meta = reference.load("metric_confusion_k19")
    count = jax.jit(metrics.confusion_matrix, static_argnums=2)
    confusion = np.asarray(count(arrays["labels"], arrays["pred"], meta["K"]))
    np.testing.assert_array_equal(confusion, arrays["confusion"])
    scores = metrics.scores(confusion)
    np.testing.assert_allclose(np.nan_to_num(scores["iou"]), arrays["iou"], rtol=1e-12)
    np.testing.assert_allclose(
        metrics.reference_mean_iou(confusion), arrays["mean_iou"], rtol=1e-12
    )
    np.testing.assert_allclose(scores["pixel_accuracy"], arrays["pixel_acc"], rtol=1e-12)
