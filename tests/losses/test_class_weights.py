"""Class weights: each rule by hand on small counts, one normalisation, and the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.losses import class_weights

# Three images; class 2 is in the last one alone, class 3 is nowhere.
PIXELS = np.array([[60, 20, 0, 0], [70, 10, 0, 0], [10, 0, 30, 0]])


def normalized(*weights: float) -> np.ndarray:
    """The normalisation that every rule promises, for three classes and an absent one."""
    return np.array([*(np.array(weights) * 3 / sum(weights)), 1.0])


def test_inverse_frequency():
    expected = normalized(1 / 140, 1 / 30, 1 / 30)
    np.testing.assert_allclose(class_weights.inverse(PIXELS), expected, rtol=1e-14)


def test_median_frequency_counts_the_images_that_hold_the_class():
    frequencies = 140 / 200, 30 / 160, 30 / 40
    expected = normalized(*(1 / f for f in frequencies))
    np.testing.assert_allclose(class_weights.median_frequency(PIXELS), expected, rtol=1e-14)


def test_effective_number_is_that_of_the_paper():
    def effective(n: int, beta: float) -> float:
        return (1 - beta**n) / (1 - beta)

    for beta in (0.5, 0.9, 0.99):
        expected = normalized(*(1 / effective(n, beta) for n in (140, 30, 30)))
        got = class_weights.effective_number(PIXELS, beta)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    # The default: N is 200 pixels / 3 classes.
    default = class_weights.effective_number(PIXELS, 1 - 3 / 200)
    np.testing.assert_allclose(class_weights.effective_number(PIXELS), default, rtol=1e-12)


def test_effective_number_lies_between_no_weights_and_inverse_ones():
    pixels = PIXELS * 10**7
    none = class_weights.effective_number(pixels, beta=0)
    np.testing.assert_array_equal(none, np.ones(4))
    almost = class_weights.effective_number(pixels, beta=1 - 1e-13)
    np.testing.assert_allclose(almost, class_weights.inverse(pixels), rtol=1e-2)
    spread = [
        weights[1] / weights[0]
        for weights in (none, class_weights.effective_number(pixels), almost)
    ]
    assert spread == sorted(spread)
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("rule", class_weights.RULES.values(), ids=class_weights.RULES)
def test_every_rule_is_finite_and_normalized(rule):
    many = np.random.default_rng(0).integers(0, 2**31 - 1, (3000, 150), dtype=np.int32)
    many[:, 7] = 0  # absent
    many[:, 8] = 0
    many[0, 8] = 1  # one pixel of 10**14
    weights = rule(many)
    assert np.all(np.isfinite(weights))
    assert np.all(weights > 0)
    assert weights[7] == 1
    assert np.delete(weights, 7).mean() == pytest.approx(1)
    assert weights.argmax() == 8 or rule is class_weights.median_frequency
    np.testing.assert_array_equal(rule(np.zeros((2, 3), int)), np.ones(3))
    np.testing.assert_array_equal(rule(np.zeros((0, 3), int)), np.ones(3))


@pytest.mark.parametrize("beta", [-0.1, 1, 2])
def test_a_beta_out_of_range_is_refused(beta):
    with pytest.raises(UserError, match="beta"):
        class_weights.effective_number(PIXELS, beta)


CLASSES = ("road", "sky")


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "class_weights.json"
    class_weights.write(path, CLASSES, np.array([0.123456789, 1234.56789]))
    assert json.loads(path.read_text()) == {"road": 0.123457, "sky": 1234.57}
    np.testing.assert_array_equal(class_weights.read(path, CLASSES), [0.123457, 1234.57])
    path.write_text('{"sky": 2, "road": 0}')  # in any order
    np.testing.assert_array_equal(class_weights.read(path, CLASSES), [0, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"road": 1', "is not JSON"),
        ("[1, 2]", "one JSON object"),
        ('{"road": 1}', "has no weight for 'sky'; the classes are road, sky"),
        ('{"road": 1, "sky": 1, "see": 1}', "unknown class, 'see'"),
        ('{"road": 1, "sky": -1}', "the weight of 'sky' is -1"),
        ('{"road": "1", "sky": 1}', "the weight of 'road' is '1'"),
        ('{"road": true, "sky": 1}', "the weight of 'road' is True"),
        ('{"road": NaN, "sky": 1}', "the weight of 'road' is nan"),
        ('{"road": 0, "sky": 0}', "all weights are 0"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_name(tmp_path, text, message):
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"weights.json.*{message}"):
        class_weights.read(path, CLASSES)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        class_weights.read(tmp_path / "weights.json", CLASSES)
