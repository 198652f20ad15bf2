"""Intervals that hold what they claim: exact cases, and how often they are right."""

import numpy as np
import pytest
from counts import counts_of
from scipy import stats

from dropclass_jax.comparison import bootstrap, intervals
from dropclass_jax.evaluation import metrics


def test_scores_are_those_of_the_confusion_matrix():
    """And a class that is not there is no part of a mean."""
    confusion = np.array([[5, 2, 0, 0], [1, 7, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0]])
    totals = np.stack([np.diag(confusion), confusion.sum(1), confusion.sum(0)], -1)
    groups = {"first": np.array([True, True, False, False]), "third": np.arange(4) == 2}
    ours = bootstrap.scores(totals, groups)
    theirs = metrics.scores(confusion)
    np.testing.assert_array_equal(ours[3:], theirs["iou"])
    assert ours[0] == theirs["mean_iou"]
    assert ours[1] == theirs["iou"][:2].mean()
    assert np.isnan(ours[2])


def test_a_run_equals_itself_exactly():
    a = counts_of([0.7])
    found = bootstrap.compare(a, a, {})
    for value in (found.low, found.high, found.b - found.a, found.of_images):
        np.testing.assert_array_equal(value, np.zeros(5))
    np.testing.assert_array_equal(found.p, np.ones(5))


def test_the_same_lead_on_every_image_is_known_exactly():
    """Every image holds as much of each class, so that no draw of them changes the difference."""
    a = np.tile(np.array([[50, 100, 100], [60, 100, 100]]), (1, 30, 1, 1))
    b = a + np.array([10, 0, 0])
    found = bootstrap.compare(a, b, {})
    lead = np.array([60 / 140 - 50 / 150, 70 / 130 - 60 / 140])
    for value in (found.low, found.high, found.b - found.a):
        np.testing.assert_allclose(value, [lead.mean(), *lead], rtol=1e-12)
    assert (found.p == 2 / 10_001).all()


def test_pairing_cancels_what_is_hard_for_both():
    a, b = counts_of([0.6, 0.65])[:, None]
    paired = bootstrap.compare(a, b, {})
    separate = bootstrap.compare(a, b[:, np.random.default_rng(0).permutation(40)], {})
    np.testing.assert_allclose(separate.a, paired.a, rtol=1e-12)
    np.testing.assert_allclose(separate.b, paired.b, rtol=1e-12)
    assert (paired.high - paired.low < (separate.high - separate.low) / 2).all()
    assert (paired.low > 0).all()  # it is known that b is better
    assert paired.low[0] < paired.b[0] - paired.a[0] < paired.high[0]


def test_seeds_enter_by_welch_s_interval():
    """Where images say nothing, the interval is Welch's, from another implementation."""
    predicted = (1000, 1100, 1300), (1000, 1050, 1070, 1200, 1200)  # of each run
    a, b = (
        np.stack([np.tile([[hits, 2000, x]], (50, 1, 1)) for x in side])
        for hits, side in zip((900, 1000), predicted, strict=True)
    )
    found = bootstrap.compare(a, b, {}, resamples=100_000)
    iou = [900 / (1100 + x) for x in predicted[0]], [1000 / (1000 + x) for x in predicted[1]]
    expected = stats.ttest_ind(iou[1], iou[0], equal_var=False)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose((found.low[0], found.high[0]), interval, rtol=0.03)
    np.testing.assert_allclose(found.p[0], expected.pvalue, rtol=0.05)
    ours = intervals.of_difference(iou[1], iou[0])
    np.testing.assert_allclose((ours.low, ours.high), interval, rtol=1e-9)
    mean = intervals.of_mean(iou[0])
    np.testing.assert_allclose(
        (mean.low, mean.high),
        stats.t.interval(0.95, 2, mean.value, stats.sem(iou[0])),
        rtol=1e-9,
    )


def test_a_single_run_borrows_the_other_side_s_spread():
    several = counts_of([0.6, 0.7, 0.8])
    one = counts_of([0.7])
    found = bootstrap.compare(several, one, {})
    alone = bootstrap.compare(several[:1], one, {})
    assert (found.high - found.low > 5 * (alone.high - alone.low)).all()
    assert np.isnan(alone.of_seeds).all()
    spread = np.std(bootstrap.scores(several.sum(1), {}), axis=0, ddof=1)
    np.testing.assert_allclose(found.of_seeds, spread * np.sqrt(1 / 3 + 1), rtol=1e-9)


@pytest.mark.parametrize("runs", [2, 3])
def test_a_single_run_against_several_is_covered_as_promised(runs):
    """One against several of the same method, where seeds decide: 19 in 20 intervals hold 0."""
    rng, number = np.random.default_rng(runs), 400
    base = counts_of([0.7], images=8)[0]
    held = 0
    for _ in range(number):
        sides = np.round(base * (0.7 + 0.05 * rng.normal(size=(runs + 1, 1, 1, 1)))).astype(int)
        sides[..., 1] = base[:, :, 1]
        found = bootstrap.compare(sides[:1], sides[1:], {}, resamples=400)
        held += found.low[0] <= 0 <= found.high[0]
    assert held / number > 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / number)


def test_a_stray_pixel_of_a_class_that_the_images_lack_moves_no_mean():
    a, b = counts_of([0.6, 0.7]), counts_of([0.8, 0.9])
    a[:, :, 1] = b[:, :, 1] = 0
    before = bootstrap.compare(a, b, {"all": np.ones(4, bool)})
    b[0, 0, 1, 2] = 1
    after = bootstrap.compare(a, b, {"all": np.ones(4, bool)})
    np.testing.assert_array_equal(after.b, before.b)
    np.testing.assert_array_equal(after.low, before.low)


def test_a_class_that_a_side_does_not_have():
    a, b = counts_of([0.6]), counts_of([0.8])
    a[:, :, 1] = b[:, :, 1] = 0
    b[:, 0, 1, 2] = 3  # predicted in one image, labelled in none
    a[:, :, 2] = b[:, :, 2] = 0
    found = bootstrap.compare(a, b, {"gone": np.arange(4) == 2})
    assert np.isnan([found.low[m] for m in (1, 3, 4)]).all()
    assert np.isnan([found.p[m] for m in (1, 3, 4)]).all()
    assert not np.isnan([found.low[m] for m in (0, 2, 5)]).any()


@pytest.mark.parametrize("images", [4, 5])
def test_of_a_class_in_a_few_images_nothing_is_said(images):
    """The mean is known, and a class in five images."""
    a, b = counts_of([0.6]), counts_of([0.8])
    others = np.flatnonzero(a[0, :, 1, 1])[images:]
    a[:, others, 1] = b[:, others, 1] = 0
    found = bootstrap.compare(a, b, {})
    known = [True, True, images == 5, True, True]
    for value in (found.low, found.high, found.p, found.of_images):
        np.testing.assert_array_equal(~np.isnan(value), known)
    assert not np.isnan(found.b - found.a).any()


def test_a_draw_without_a_class_speaks_for_neither_side():
    draws = np.array([[1.0, 1.0, -1.0]] * 90 + [[1.0, np.nan, np.nan]] * 10)
    np.testing.assert_allclose(bootstrap.p_values(draws), [2 / 101, 22 / 101, 22 / 101])


def test_two_heads_of_the_same_runs_are_paired_by_run():
    a = counts_of([0.5, 0.6, 0.7])
    b = a + [[[[2, 0, 0]]]] * (a[..., 1:2] > 50)  # a little more, in every run
    paired = bootstrap.compare(a, b, {}, same_runs=True)
    assert (paired.low > 0).all()
    assert (bootstrap.compare(a, b, {}).low < 0).all()
    each = bootstrap.scores(b.sum(1), {}) - bootstrap.scores(a.sum(1), {})
    np.testing.assert_allclose(paired.of_seeds, stats.sem(each), rtol=1e-9)


def test_many_classes_are_called_by_what_is_known_of_all():
    """Three of four by their rank, though only one would count by itself after Bonferroni."""
    p = np.array([0.03, np.nan, 0.001, 0.02, 0.9])
    np.testing.assert_allclose(
        bootstrap.discoveries(p), [0.04, np.nan, 0.004, 0.04, 0.9], rtol=1e-9
    )
    assert np.isnan(bootstrap.discoveries(np.array([np.nan]))).all()


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "spread"), [((3, 3), 0.03), ((3, 5), 0.1)])
def test_intervals_hold_the_truth_as_often_as_they_say(runs, spread):
    """Of two methods that are equal, with images and seeds drawn afresh each time."""
    rng = np.random.default_rng(0)
    held, trials = 0, 300
    for _ in range(trials):
        quality = rng.normal(0.6, spread, sum(runs))
        drawn = counts_of(quality, seed=rng.integers(1e9))
        found = bootstrap.compare(drawn[: runs[0]], drawn[runs[0] :], {}, resamples=500)
        held += found.low[0] <= 0 <= found.high[0]
    assert held / trials >= 0.92
