"""Dice and Lovász against NumPy in float64, by hand, and on what they promise."""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.losses import regions

LOSSES = {"dice": jax.jit(regions.dice), "lovasz": jax.jit(regions.lovasz)}
K = 4
BOTH = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@pytest.fixture(scope="module")
def logits():
    return 2 * np.random.default_rng(1).standard_normal((3, 4, 5, K))


@pytest.fixture(scope="module")
def labels():
    """Class 3 is nowhere, class 2 in the first image alone, and the second has no labels."""
    labels = np.random.default_rng(0).integers(0, 2, (3, 4, 5))
    labels[0, 0, :2] = 2
    labels[0, 1] = 255
    labels[1] = 255
    return labels.astype(np.uint8)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def dice(logits, labels):
    p, losses = softmax(logits), []
    for c in np.unique(labels[labels != 255]):
        p_c, y_c = p[..., c][labels != 255], (labels == c)[labels != 255]
        losses.append(1 - 2 * (p_c * y_c).sum() / ((p_c**2).sum() + (y_c**2).sum()))
    return np.mean(losses)


def jaccard_loss(wrong, of_class):
    """1 - IoU of a class whose pixels ``wrong`` are missed or claimed."""
    hits = of_class & ~wrong
    return 1 - hits.sum() / (of_class | wrong).sum()


def lovasz(logits, labels):
    """The definition: errors in falling order, weighted by the growth of 1 - IoU."""
    losses = []
    for p, label in zip(softmax(logits), labels, strict=True):
        known = label != 255
        if not known.any():
            continue
        of_image = []
        for c in np.unique(label[known]):
            of_class = (label == c)[known]
            errors = np.abs(of_class - p[..., c][known])
            wrong, before, loss = np.zeros_like(of_class), 0.0, 0.0
            for pixel in np.argsort(-errors):
                wrong[pixel] = True
                after = jaccard_loss(wrong, of_class)
                loss, before = loss + errors[pixel] * (after - before), after
            of_image.append(loss)
        losses.append(np.mean(of_image))
    return np.mean(losses)


@BOTH
def test_by_definition_with_its_gradient(loss, logits, labels):
    """The definition's gradient by finite differences: only the order of errors is no slope."""
    definition = dice if loss is LOSSES["dice"] else lovasz
    with jax.enable_x64(True):
        value, gradient = jax.jit(
            jax.value_and_grad(lambda x: regions.mean(loss(x, jnp.asarray(labels))))
        )(logits)
        gradient = np.asarray(gradient)
    np.testing.assert_allclose(value, definition(logits, labels), rtol=1e-12)
    rng = np.random.default_rng(3)
    for _ in range(5):
        direction = rng.standard_normal(logits.shape)
        ahead, behind = (definition(logits + s * direction, labels) for s in (1e-6, -1e-6))
        slope = (ahead - behind) / 2e-6
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6)
    assert not gradient[labels == 255].any()


def certain(labels):
    """Logits that leave no doubt."""
    return 1e3 * jax.nn.one_hot(labels, K)


def test_certain_answers_lose_what_they_miss():
    """Classes 0 and 1 of two pixels each, one of class 1 taken for 0; then all taken for 2."""
    labels = jnp.array([[[0, 0, 1, 1]]], jnp.uint8)
    one_wrong = certain(jnp.array([[[0, 0, 0, 1]]]))
    # Dice 4/5 and 2/3, IoU 2/3 and 1/2.
    got = regions.mean(LOSSES["dice"](one_wrong, labels))
    np.testing.assert_allclose(got, 1 - (4 / 5 + 2 / 3) / 2, rtol=1e-6)
    got = regions.mean(LOSSES["lovasz"](one_wrong, labels))
    np.testing.assert_allclose(got, 1 - (2 / 3 + 1 / 2) / 2, rtol=1e-6)
    for loss in LOSSES.values():
        assert regions.mean(loss(certain(labels), labels)) == 0
        assert regions.mean(loss(certain(jnp.full_like(labels, 2)), labels)) == 1


def test_lovasz_at_certain_answers_is_the_jaccard_loss_of_any_of_them():
    of_class = np.array([True, True, True, False, False])
    extension = jax.jit(regions._lovasz_extension)
    for wrong in (set(c) for n in range(6) for c in combinations(range(5), n)):
        wrong = np.array([i in wrong for i in range(5)])
        got = extension(wrong[None].astype(np.float32), of_class[None], np.ones((1, 5), bool))
        np.testing.assert_allclose(got, jaccard_loss(wrong, of_class), rtol=1e-6, atol=1e-7)


def test_dice_counts_over_the_batch_and_lovasz_over_an_image(logits, labels):
    """Sums of two images add up; a class of one image is in the other's dice alone."""
    labels = jnp.asarray(labels)
    for loss in LOSSES.values():
        first, last = (loss(logits[i : i + 1], labels[i : i + 1]) for i in (0, 2))
        both = loss(logits, labels)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5), both, jax.tree.map(jnp.add, first, last)
        )
    np.testing.assert_array_equal(LOSSES["dice"](logits, labels).labelled > 0, [1, 1, 1, 0])
    assert LOSSES["lovasz"](logits, labels).size == 2


def test_logits_are_upsampled():
    loss = LOSSES["dice"]
    logits = jax.random.normal(jax.random.key(0), (1, 2, 3, K))
    labels = jnp.arange(24, dtype=jnp.uint8).reshape(1, 4, 6) % K
    full = jax.image.resize(logits, (1, 4, 6, K), "bilinear")
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5), loss(logits, labels), loss(full, labels)
    )


@BOTH
def test_nothing_labelled_is_finite_and_still(loss, logits):
    labels = jnp.full((3, 4, 5), 255, jnp.uint8)
    value, gradient = jax.value_and_grad(lambda x: regions.mean(loss(x, labels)))(logits)
    assert value == 0
    assert not gradient.any()
