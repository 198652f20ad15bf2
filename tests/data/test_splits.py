"""The draw of val: some of every class, of the size that was asked for, and always the same."""

from __future__ import annotations

import numpy as np
import pytest

from dropclass_jax.data import splits


def random_set(seed: int, number: int = 60) -> dict[str, list[int]]:
    """Images with a common class and six that are rarer and rarer."""
    generator = np.random.default_rng(seed)
    rare = {
        c: set(generator.choice(number, 2 + 3 * c, replace=False).tolist()) for c in range(1, 7)
    }
    return {str(i): [0, *(c for c, images in rare.items() if i in images)] for i in range(number)}


@pytest.mark.parametrize("seed", range(20))
def test_both_sides_have_every_class(seed):
    holds = random_set(seed)
    chosen = splits.draw(holds, 0.2, seed)
    assert len(chosen) == 12
    for held in range(7):
        images = {name for name, classes in holds.items() if held in classes}
        inside = len(images & chosen)
        assert 1 <= inside < len(images)
        # Near its share, wherever that is several images.
        assert abs(inside - 0.2 * len(images)) <= 2


def test_a_draw_by_chance_would_not_do_that():
    """The reason for all of it: of 20 draws by name alone most lack a class."""
    lacking = 0
    for seed in range(20):
        holds = random_set(seed)
        alike = splits.draw(dict.fromkeys(holds, (0,)), 0.2, seed)
        lacking += any(not any(c in holds[name] for name in alike) for c in range(7))
    assert lacking >= 10


def test_a_held_out_image_stays_so_when_others_come():
    names = [str(i) for i in range(100)]
    before = splits.draw(dict.fromkeys(names, (0, 1)), 0.2, seed=3)
    more = [*names, *(f"new{i}" for i in range(5))]
    after = splits.draw(dict.fromkeys(more, (0, 1)), 0.2, seed=3)
    assert len(before) == 20
    assert len(before & after) >= 18
    holds = random_set(0)
    before = splits.draw(holds, 0.2, seed=0)
    after = splits.draw({**holds, "new": [0]}, 0.2, seed=0)
    assert len(before & after) >= 10


def test_the_last_image_with_a_class_stays_in_training():
    holds = {"a": [0, 1], "b": [0], "c": [0, 2], "d": [0], "e": [0]}
    for seed in range(10):
        assert splits.draw(holds, 0.6, seed) <= {"b", "d", "e"}


def test_val_is_never_empty_nor_all():
    assert splits.draw({"a": [0], "b": [0]}, 0.01, 0) < {"a", "b"}
    assert len(splits.draw({"a": [0], "b": [1]}, 0.01, 0)) == 1
    assert len(splits.draw({"a": [], "b": []}, 0.9, 0)) == 1


def test_val_grows_where_rare_classes_share_no_image():
    holds = {f"{c}{i}": [c] for c in range(5) for i in range(2)}
    chosen = splits.draw(holds, 0.1, 0)
    assert sorted(name[0] for name in chosen) == list("01234")


def test_gaps_name_the_split():
    counts = {"train": np.array([3, 0, 2]), "val": np.array([1, 4, 0]), "test": np.zeros(3)}
    crack, hole = splits.gaps(["road", "crack", "hole"], counts)
    assert crack.startswith("warning: no image of train holds crack (images that do: val 4)")
    assert hole.startswith("warning: no image of val holds hole (images that do: train 2)")
    counts = {"train": np.array([3, 0, 0, 0, 0, 0]), "val": np.array([3, 0, 0, 0, 0, 0])}
    assert splits.gaps(list("abcdef"), counts) == ["warning: no image holds b, c, d and 2 more"]
    assert splits.gaps(list("ab"), {"test": np.zeros(2)}) == []
