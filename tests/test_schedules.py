"""Schedules at their corners."""

import numpy as np
import pytest

from dropclass_jax import schedules


def at(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_linear_ramp():
    np.testing.assert_allclose(at(schedules.ramp("linear", 1, 0, 100), 0, 25, 100), [1, 0.75, 0])
    np.testing.assert_allclose(at(schedules.ramp("linear", 0, 1, 100), 0, 25, 100), [0, 0.25, 1])


def test_a_ramp_may_begin_late():
    late = schedules.ramp("linear", 1.0, 0.2, 100, begin=0.5)
    np.testing.assert_allclose(at(late, 0, 50, 75, 100), [1, 1, 0.6, 0.2], rtol=1e-6)


def test_cosine_ramp():
    cosine = schedules.ramp("cosine", 0.0, 1.0, 100)
    expected = [0, 0.5 - 0.5 * np.cos(np.pi / 4), 0.5, 1]
    np.testing.assert_allclose(at(cosine, 0, 25, 50, 100), expected, atol=1e-6)


def test_constant_jumps_where_it_begins():
    np.testing.assert_allclose(at(schedules.ramp("constant", 1, 0.3, 10), 0, 9), 0.3)
    jump = schedules.ramp("constant", 1, 0.3, 10, begin=0.5)
    np.testing.assert_allclose(at(jump, 4, 5), [1, 0.3])


def test_epochs_hold_the_value_of_their_first_step():
    ramp = schedules.ramp("linear", 0, 1, 100, steps_per_epoch=10)
    np.testing.assert_allclose(at(ramp, 0, 9, 10, 19, 99), [0, 0, 0.1, 0.1, 0.9], rtol=1e-6)


def test_unknown_shape():
    with pytest.raises(ValueError, match="linear, cosine, constant, not 'square'"):
        schedules.ramp("square", 0, 1, 10)


def test_poly_is_one_step_late_as_the_reference():
    poly = schedules.poly(0.1, 8, power=0.9)
    expected = [0.1, 0.1, 0.1 * (7 / 8) ** 0.9, 0.1 * (1 / 8) ** 0.9]
    np.testing.assert_allclose(at(poly, 0, 1, 2, 8), expected, rtol=1e-6)
    punctual = schedules.poly(0.1, 8, power=0.9, lag=0)
    np.testing.assert_allclose(at(punctual, 0, 1, 8), [0.1, 0.1 * (7 / 8) ** 0.9, 0], atol=1e-8)


def test_warm_up_climbs_to_the_decay():
    warm = schedules.poly(1.0, 100, power=1.0, warmup_steps=4, lag=0)
    np.testing.assert_allclose(at(warm, 0, 1, 3, 4), [0.25, 0.4950, 0.97, 0.96], atol=1e-6)
