"""The facts of the data sets agree with themselves."""

from __future__ import annotations

import pytest

from dropclass_jax.data import info


@pytest.mark.parametrize(
    ("facts", "num_classes"),
    [(info.CAMVID, 11), (info.STREETS, 19), (info.CITYSCAPES, 19), (info.VOC, 21)],
)
def test_names_and_colours_are_distinct_and_one_a_class(facts, num_classes):
    assert facts.num_classes == num_classes
    assert len(set(facts.classes)) == len(set(facts.colors)) == num_classes
    assert all(0 <= channel <= 255 for color in facts.colors for channel in color)
    assert facts.ignore_label == 255


def test_cityscapes_has_a_weight_for_every_class():
    weights = dict(zip(info.CITYSCAPES.classes, info.CITYSCAPES.class_weights, strict=True))
    assert (weights["road"], weights["train"], weights["bicycle"]) == (0.8373, 1.0865, 1.0507)
