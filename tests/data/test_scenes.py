"""The generated scenes: reproducible, as skewed as promised, and in or out of context as asked."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dropclass_jax.data.scenes import CLASSES, COLORS, draw_scene
from dropclass_jax.data.scenes import ground as scene_ground
from dropclass_jax.data.scenes.canvas import Canvas
from dropclass_jax.data.scenes.plan import RULES, plan_scene
from dropclass_jax.errors import UserError

SCENES = 100  # drawn once in context and once, from the same generators, out of it
PLANS = 300
LARGE = ("truck", "bus", "train")


def index(name: str) -> int:
    return CLASSES.index(name)


@pytest.fixture(scope="module")
def drawn() -> dict[float, list[tuple[np.ndarray, np.ndarray]]]:
    """Scenes by the probability of standing in context."""
    return {
        share: [draw_scene(np.random.default_rng([7, i]), share) for i in range(SCENES)]
        for share in (0.95, 0.0)
    }


@pytest.fixture(scope="module")
def plans():
    """Plans, far cheaper than pictures, by the probability of standing in context."""
    return {
        share: [plan_scene(np.random.default_rng([3, i]), share) for i in range(PLANS)]
        for share in (1.0, 0.95, 0.0)
    }


def shares(scenes) -> np.ndarray:
    """The share of each class among the labelled pixels, [K]."""
    count = sum(np.bincount(label.ravel(), minlength=256) for _, label in scenes)[: len(CLASSES)]
    return count / count.sum()


def touching(scenes, name: str, others: tuple[str, ...]) -> float:
    """The fraction of a class's connected regions that lie within 2 pixels of another class."""
    hits = []
    for _, label in scenes:
        number, regions, stats, _ = cv2.connectedComponentsWithStats(
            (label == index(name)).astype(np.uint8), connectivity=8
        )
        near = np.isin(label, [index(other) for other in others]).astype(np.uint8)
        near = cv2.dilate(near, np.ones((5, 5), np.uint8)) > 0
        hits += [
            bool(near[regions == k].any())
            for k in range(1, number)
            if stats[k, cv2.CC_STAT_AREA] >= 8
        ]
    assert len(hits) >= 20
    return float(np.mean(hits))


def test_same_generator_state_gives_the_same_bytes():
    for share in (0.95, 0.0):
        first, again = (draw_scene(np.random.default_rng([1, 2]), share) for _ in range(2))
        assert first[0].tobytes() == again[0].tobytes()
        assert first[1].tobytes() == again[1].tobytes()
    rng = np.random.default_rng([1, 2])
    draw_scene(rng)
    assert draw_scene(rng)[1].tobytes() != first[1].tobytes()


def test_the_global_generators_have_no_say():
    first = draw_scene(np.random.default_rng(5))[0]
    cv2.setRNGSeed(99)
    np.random.seed(99)  # noqa: NPY002
    np.testing.assert_array_equal(draw_scene(np.random.default_rng(5))[0], first)


@pytest.mark.parametrize(("height", "width"), [(128, 256), (64, 128), (61, 93), (16, 16)])
def test_shapes_types_and_values(height, width):
    for seed in range(3):
        image, label = draw_scene(np.random.default_rng(seed), height=height, width=width)
        assert image.shape == (height, width, 3)
        assert label.shape == (height, width)
        assert image.dtype == label.dtype == np.uint8
        assert image.flags.c_contiguous
        assert label.flags.c_contiguous
        assert set(np.unique(label)) <= {*range(len(CLASSES)), 255}


def test_names_and_colors():
    assert len(CLASSES) == len(COLORS) == len(set(COLORS)) == 19
    assert COLORS[index("road")] == (128, 64, 128)
    assert COLORS[index("bicycle")] == (119, 11, 32)


def test_only_the_bonnet_is_ignored(drawn):
    for _, label in drawn[0.95]:
        assert 0.005 < (label == 255).mean() < 0.08
        assert not (label[: label.shape[0] * 9 // 10] == 255).any()


@pytest.mark.parametrize("share", [0.95, 0.0])
def test_the_skew_is_that_of_cityscapes(drawn, share):
    found = shares(drawn[share])
    assert found.argmax() == index("road")
    assert 0.3 < found.max() < 0.45
    rare = {CLASSES[k] for k in np.flatnonzero(found < 0.01)}
    assert rare == set(RULES)
    assert len(rare) == 10
    assert 0.0003 < found.min() < 0.002


def test_rare_classes_are_as_common_out_of_context(drawn):
    inside, outside = shares(drawn[0.95]), shares(drawn[0.0])
    for name in RULES:
        assert 0.6 < outside[index(name)] / inside[index(name)] < 1.7, name


def test_in_context_is_a_probability(plans):
    def usual(share: float) -> np.ndarray:
        return np.array(
            [
                t.place in RULES[t.name].usual
                for p in plans[share]
                for t in p.things
                if t.name in RULES
            ]
        )

    assert usual(1.0).all()
    assert not usual(0.0).any()
    assert len(usual(0.95)) > 1000
    assert abs(usual(0.95).mean() - 0.95) < 0.015


def test_every_rule_is_used(plans):
    for share in (1.0, 0.0):
        seen = {(t.name, t.place) for p in plans[share] for t in p.things if t.name in RULES}
        places = "usual" if share else "unusual"
        assert seen == {(name, at) for name, rule in RULES.items() for at in getattr(rule, places)}


def test_looks_do_not_depend_on_context(plans):
    def looks(plan) -> list:
        own = {"turn", "length"}  # not the height it hangs at
        return sorted(
            (
                t.name,
                t.seed,
                t.z,
                sorted((k, v) for k, v in t.options.items() if k in own),
            )
            for t in plan.things
            if t.name in RULES
        )

    for inside, outside in zip(plans[1.0], plans[0.0], strict=True):
        assert inside.camera == outside.camera
        assert looks(inside) == looks(outside)


def test_surroundings_follow_the_place(plans):
    for share in (1.0, 0.0):
        for plan in plans[share]:
            for thing in plan.things:
                side = plan.right if thing.x > 0 else plan.left
                if thing.name in LARGE:
                    assert side.margin == thing.place
                    assert side.lane < abs(thing.x) < side.kerb
                elif thing.name in ("wall", "fence"):
                    assert side.strip == thing.place
                    assert side.walk < abs(thing.x) < side.front


def test_each_surface_of_the_margin_looks_its_own(plans):
    scene = plans[1.0][0]

    def strip(surface: str) -> tuple[np.ndarray, int]:
        """The ground 1 to 4 m right of the camera and 8 m ahead: colours [W, 3] and class."""
        blank = np.zeros((scene.camera.height, scene.camera.width), np.uint8)
        canvas = Canvas(scene.camera, scene.light, np.repeat(blank[..., None], 3, -1), blank)
        rng = np.random.default_rng(0)
        scene_ground.paint_ground(canvas, rng, [1.0, 4.0], ["lane", surface, "lane"])
        ends = canvas.camera.project(np.array([(1.3, 0, 8.0), (3.7, 0, 8.0)])).astype(int)
        row, columns = ends[0, 1], slice(ends[0, 0], ends[1, 0])
        return canvas.image[row, columns].astype(float), int(canvas.label[row, columns].max())

    found = {surface: strip(surface) for surface in scene_ground.SURFACES}
    labels = {surface: CLASSES[label] for surface, (_, label) in found.items()}
    assert labels == {
        "lane": "road",
        "bus lane": "road",
        "rails": "road",
        "walk": "sidewalk",
        "lawn": "terrain",
    }
    assert found["rails"][0].std(0).min() > 20 > 5 > found["lane"][0].std(0).max()
    redness = {
        surface: colors[:, 0].mean() - colors[:, 2].mean() for surface, (colors, _) in found.items()
    }
    assert redness["bus lane"] > redness["lane"] + 25


@pytest.mark.parametrize(
    ("name", "others", "inside", "outside"),
    [
        ("rider", ("bicycle", "motorcycle"), 0.75, 0.25),
        ("traffic sign", ("pole",), 0.85, 0.35),
        ("traffic light", ("pole",), 0.85, 0.35),
        ("fence", ("terrain",), 0.65, 0.1),
        ("bicycle", ("sidewalk", "rider"), 0.85, 0.65),
    ],
)
def test_the_context_shows_in_the_labels(drawn, name, others, inside, outside):
    assert touching(drawn[0.95], name, others) > inside
    assert touching(drawn[0.0], name, others) < outside


def test_walls_stand_in_the_grass_out_of_context_only(drawn):
    assert touching(drawn[0.95], "wall", ("terrain",)) < 0.2
    assert touching(drawn[0.0], "wall", ("terrain",)) > 0.65


def test_pictures_and_labels_are_aligned(drawn):
    """Moving the labels by two pixels makes the classes less uniform in colour, in every scene."""

    def spread(image: np.ndarray, label: np.ndarray) -> float:
        count = np.bincount(label.ravel(), minlength=256)
        total = 0.0
        for channel in range(3):
            values = image[..., channel].ravel().astype(float)
            sums = np.bincount(label.ravel(), values, minlength=256)
            total += float((values**2).sum() - (sums**2 / np.maximum(count, 1)).sum())
        return total

    for image, label in drawn[0.95][:40]:
        inner = image[4:-4, 4:-4]
        here = spread(inner, label[4:-4, 4:-4])
        for down, right in ((2, 0), (-2, 0), (0, 2), (0, -2)):
            moved = label[4 + down : -4 + down or None, 4 + right : -4 + right or None]
            assert here < spread(inner, moved)


def test_a_probability_out_of_range_is_the_users_mistake():
    with pytest.raises(UserError, match=r"in_context=1\.5"):
        draw_scene(np.random.default_rng(0), in_context=1.5)
