"""What networks have learned, on cases whose answer is known: in float64 where exactness counts."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax import dropclass, models
from dropclass_jax.analysis import choose, dependence, explain, grad_cam, selection, similarity
from dropclass_jax.analysis.after_features import after_features, classifier_weights
from dropclass_jax.analysis.class_means import class_sums, nearest
from dropclass_jax.analysis.layer_access import apply, find
from dropclass_jax.analysis.measure import measure_batch
from dropclass_jax.evaluation import metrics
from dropclass_jax.models.segmenter import Segmenter
from dropclass_jax.ops.resize import resize_bilinear

K = 3
# A network with each kind of backbone and head; the others, of the same kinds, are slow.
FEW = ("hrnet_w18_small_v1", "deeplab_v3_resnet50", "lr_aspp_mobilenet_v3_small")
STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def network(model, shape, seed=0):
    """Variables of any size, as after training; nothing is compiled for them."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape, 3)))
    rng = np.random.default_rng(seed)

    def drawn(path, x):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 1.5, x.shape)
        return rng.standard_normal(x.shape) * (np.prod(x.shape[:-1]) ** -0.5 if x.ndim > 1 else 0.1)

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def images(shape, batch=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, *shape, 3), np.uint8)


def normalized(x):
    x = x / 255.0 - np.array(STATISTICS["mean"])
    return jnp.asarray(x / np.array(STATISTICS["std"]), jnp.float32)


# Similarity


def test_cosine_similarity_by_hand():
    vectors = [[3.0, 4.0], [4.0, 3.0], [-6.0, -8.0], [0.0, 0.0]]
    alike = similarity.cosine(vectors)
    np.testing.assert_allclose(alike[:3, :3], [[1, 0.96, -1], [0.96, 1, -0.96], [-1, -0.96, 1]])
    assert np.isnan(alike[3]).all()
    np.testing.assert_allclose(
        similarity.mean_to_others(alike), [-0.02, 0, -0.98, np.nan], atol=1e-15
    )


def test_rank_correlation_says_how_many_pairs_it_has():
    pixels = [1000, 10, 100, 1, 5]
    falling = [0.0, 0.3, 0.2, 0.9, np.nan]
    rank = similarity.rank_correlation(pixels, falling)
    assert (rank.rho, rank.n) == (pytest.approx(-1), 4)
    # By hand: ranks 4 2 3 1 and 1 2 4 3, differences 3 0 -1 -2: 1 - 6 * 14 / (4 * 15).
    rank = similarity.rank_correlation(pixels[:4], [0.1, 0.2, 0.4, 0.3])
    assert rank.rho == pytest.approx(-0.4)
    assert similarity.rank_correlation([1, 2, np.nan], [1, 2, 3]) is None
    assert similarity.rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_top_overlap_and_selection():
    importance = np.array([[3.0, 2, -1, 0], [3, -2, 1, 2], [-1, -2, 4, 3]])
    np.testing.assert_array_equal(
        selection.selected(importance), [[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 1, 1]]
    )
    overlap = selection.top_overlap(importance, 2)  # {0, 1}, {0, 3}, {2, 3}
    np.testing.assert_array_equal(overlap, [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])


# Mean features


def test_class_sums_count_each_class_at_the_features_positions():
    labels = jnp.array([[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 0], [2, 2, 0, 0]]])
    features = jnp.arange(8.0).reshape(1, 2, 2, 2)
    # Half of an even ratio rounds to the position right and below of the centre.
    np.testing.assert_array_equal(nearest(labels, (2, 2)), [[[0, 1], [2, 0]]])
    sums, counts = class_sums(features, labels, 4)
    np.testing.assert_array_equal(sums, [[6, 8], [2, 3], [4, 5], [0, 0]])
    np.testing.assert_array_equal(counts, [2, 1, 1, 0])
    _, counts = class_sums(features, labels.at[0, 3, 3].set(255), 4)
    np.testing.assert_array_equal(counts, [1, 1, 1, 0])


# Seg-Grad-CAM


def test_seg_grad_cam_of_a_linear_network_is_its_closed_form():
    """Logits ``A W``: the gradient's mean is ``W[:, c] |region| / positions``, at every place."""
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((2, 4, 5, 6)), rng.standard_normal((6, K))
    region = rng.random((2, 4, 5)) < 0.4

    def linear(push):
        features = a + push.get("features", 0)
        return features @ w, {"features": features}

    for c in range(K):
        heat = grad_cam.seg_grad_cam(linear, c, region)["features"]
        pixels = region.sum((1, 2))[:, None, None] / 20
        np.testing.assert_allclose(heat, np.maximum(pixels * (a @ w[:, c]), 0), atol=1e-14)


def test_seg_grad_cam_sums_the_score_of_upsampled_pixels():
    logits = jnp.arange(8.0).reshape(1, 2, 2, 2)
    region = np.zeros((1, 4, 4), bool)
    region[0, 0, :2] = True  # the corner pixel and its right neighbour, a quarter of the way on
    assert grad_cam.region_score(logits, 1, region) == pytest.approx(1 + (0.75 * 1 + 0.25 * 3))


def test_share_inside():
    heat = np.array([[1.0, 3.0], [0.0, 4.0]])
    assert grad_cam.share_inside(heat, np.array([[0, 1], [1, 0]], bool)) == 3 / 8
    assert np.isnan(grad_cam.share_inside(np.zeros((2, 2)), np.ones((2, 2), bool)))


def test_a_push_is_felt_by_all_that_comes_after(tiny):
    model = tiny(K)
    variables = network(model, (16, 24))
    x = jnp.asarray(images((16, 24)), jnp.float64) / 255
    layers = find(model, variables, x)
    assert list(layers) == ["features", "features_drop"]  # its only map is the features

    @jax.jit
    def everything(variables, x):
        outputs, given = apply(model, variables, x, layers)
        pushed, _ = apply(model, variables, x, layers, {"features": 0.3})
        plain = model.apply(variables, x)
        return (
            outputs,
            given,
            pushed,
            plain,
            after_features(model).apply(variables, plain["features"] + 0.3),
        )

    outputs, given, pushed, plain, expected = everything(variables, x)
    for name in given:
        np.testing.assert_array_equal(given[name], plain[name])
    np.testing.assert_allclose(pushed["logits_drop"], expected["logits_drop"], rtol=1e-12)
    assert not np.allclose(pushed["logits_drop"], outputs["logits_drop"])


class TwoMaps(nn.Module):
    """The second map is made of the first, as in a ResNet."""

    @nn.compact
    def __call__(self, images, train):
        first = nn.Conv(4, (4, 4), strides=4, name="first")(images)
        return [first, nn.Conv(5, (2, 2), strides=2, name="second")(first)]


def test_gradients_reach_a_map_through_the_rest_of_the_backbone():
    """The head reads the last map alone: what the first one is good for goes through the second."""
    model = Segmenter(TwoMaps(), lambda maps, train: maps[-1], K, dropclass=None)
    x = jnp.asarray(images((16, 24)), jnp.float64) / 255
    variables = network(model, (16, 24))
    layers = find(model, variables, x)
    assert layers == {
        "map 1": (("backbone", "first"), 0),
        "features": (("backbone", "second"), 0),
    }

    @jax.jit
    def gradients(variables, x):
        def score(push):
            return jnp.sum(apply(model, variables, x, layers, push)[0]["logits"][..., 1])

        _, given = apply(model, variables, x, layers)
        return jax.grad(score)(jax.tree.map(jnp.zeros_like, given))

    params = variables["params"]
    column = params["classifier"]["kernel"][0, 0, :, 1]  # [5]
    found = gradients(variables, x)
    np.testing.assert_allclose(found["features"], np.broadcast_to(column, (2, 2, 3, 5)))
    # Every position of the second map has read four of the first, each with its own weights.
    kernel = params["backbone"]["second"]["kernel"]  # [2, 2, 4, 5]
    each = np.broadcast_to(np.tile(kernel @ column, (2, 3, 1)), (2, 4, 6, 4))
    np.testing.assert_allclose(found["map 1"], each, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in models.names()],
)
def test_every_networks_layers_are_found(name):
    model = models.create(name, K, auxiliary=True)
    x = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    layers = find(model, variables, x)
    assert list(layers) == [*(f"map {i}" for i in range(1, 5)), "features", "features_drop"]
    assert len(set(layers.values())) == 6

    def everything(variables, images):
        outputs, given = apply(model, variables, images, layers)
        return (
            outputs,
            given,
            after_features(model).apply(variables, outputs["features"], jnp.ones(K)),
        )

    outputs, given, after = jax.eval_shape(everything, variables, x)
    assert given["features_drop"].shape == outputs["features_drop"].shape
    assert after["logits_drop"].shape == outputs["logits_drop"].shape


# Class dependence


def test_dependence_rows_are_the_ious_that_the_whole_network_has_with_that_class_dropped(tiny):
    shape = (16, 24)
    model = tiny(K)
    variables = network(model, shape)
    x = images(shape, batch=3)
    labels = np.random.default_rng(1).integers(0, K, (3, *shape)).astype(np.uint8)
    labels[0, :3] = 255
    measure = partial(measure_batch, model=model, ignore_label=255, **STATISTICS)
    counts, means = jax.jit(measure)(variables, x, labels)

    @partial(jax.jit, static_argnames="head")
    def confusion(keep, head):
        logits = model.apply(variables, normalized(x), keep)[head]
        predicted = jnp.argmax(resize_bilinear(logits, shape), axis=-1)
        each = [metrics.confusion_matrix(*pair, K) for pair in zip(labels, predicted, strict=True)]
        return metrics.class_counts(jnp.stack(each))

    for row, keep in enumerate(np.concatenate([np.ones((1, K)), 1 - np.eye(K)])):
        np.testing.assert_array_equal(counts["drop"][:, row], confusion(keep, "logits_drop"))
    np.testing.assert_array_equal(counts["plain"][:, 0], confusion(np.ones(K), "logits"))
    assert (counts["drop"][:, :1] != counts["drop"][:, 1:]).any()
    assert set(means) == {"features", "features_drop"}


def test_a_class_that_nobody_reads_changes_nothing():
    """Its features have no weight in the classifier: its row is zero, another's is not."""
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.random((1, 6, 8, 4)))
    importance = jnp.array([[2.0, -1, 0, 0], [-1, 2, 0, 0], [0, 0, 0, 0]])  # class 2 has none
    labels = jnp.asarray(rng.integers(0, 2, (1, 6, 8)))

    def logits(keep):
        return dependence.fade(features, importance, keep) @ importance.T

    found = dependence.effect(np.asarray(dependence.counts(logits, labels, K)), resamples=10)
    np.testing.assert_array_equal(found.change[2, :2], [0, 0])
    assert (found.change[0, :2] != 0).any()
    assert np.isnan(found.iou[2])  # no pixel of it is labelled
    assert np.isnan(found.change[:, 2]).all()
    assert np.isnan(found.low).all()  # of one image


def counts_of(*confusions):
    """``[K + 1, K, 3]`` of one image, from its confusion matrices."""
    return metrics.class_counts(np.array(confusions, np.int32))


EVERYTHING, WITHOUT_0, WITHOUT_1 = [[6, 2], [0, 4]], [[0, 8], [0, 4]], [[6, 2], [4, 0]]


def test_changes_of_iou_by_hand():
    image = counts_of(EVERYTHING, WITHOUT_0, WITHOUT_1)
    found = dependence.effect(np.stack([image] * 6), resamples=1000)
    np.testing.assert_allclose(found.iou, [6 / 8, 4 / 6])
    change = [[-6 / 8, 4 / 12 - 4 / 6], [6 / 12 - 6 / 8, -4 / 6]]
    np.testing.assert_allclose(found.change, change)
    np.testing.assert_allclose(found.leaning, [change[1][0], change[0][1]])
    # Every image says the same: there is no noise.
    np.testing.assert_allclose(found.low, change)
    np.testing.assert_allclose(found.high, change)
    np.testing.assert_allclose(found.leaning_low, found.leaning)
    assert found.clear.all()


def test_what_one_image_says_is_noise_and_what_all_say_is_not():
    quiet, loud = counts_of(*[EVERYTHING] * 3), counts_of(EVERYTHING, WITHOUT_0, EVERYTHING)
    mostly = dependence.effect(np.stack([loud] * 20 + [quiet] * 4), resamples=1000)
    once = dependence.effect(np.stack([loud] + [quiet] * 23), resamples=1000)
    np.testing.assert_array_equal(mostly.clear, [[True, True], [False, False]])
    assert not once.clear.any()
    assert (once.change[0] < 0).all()
    assert (once.low[0] <= once.change[0]).all()
    assert (once.high[0] == 0).all()
    assert mostly.leaning_high[1] < 0
    assert once.leaning_high[1] == 0


def test_a_class_of_few_images_has_no_interval():
    only_0 = counts_of(*[[[6, 0], [0, 0]]] * 3)
    both = counts_of(EVERYTHING, WITHOUT_0, WITHOUT_1)
    found = dependence.effect(np.stack([both] * 4 + [only_0] * 4), resamples=100)
    assert np.isfinite(found.low[:, 0]).all()
    assert np.isnan(found.low[:, 1]).all()
    assert np.isfinite(found.change).all()
    assert not found.clear[:, 1].any()


def test_fading_scales_features_by_what_is_left_of_the_average():
    importance = jnp.array([[2.0, 1, -3, 0], [-1, 1, -1, 0], [-1, 1, 2, 0]])
    features = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 4)))
    np.testing.assert_array_equal(
        dependence.fade(features, importance, dropclass.keep_all(K)), features
    )
    keep = jnp.array([0.0, 1, 1])
    faded = dependence.fade(features, importance, keep)
    # Where any class speaks for a feature, as the average that DropClass takes.
    everything = dropclass.average_features_shared(features, importance, jnp.ones(K))
    kept = dropclass.average_features_shared(features, importance, keep)
    read = np.asarray(everything) != 0
    np.testing.assert_allclose(faded[read], (features * kept / everything)[read], rtol=1e-12)
    np.testing.assert_array_equal(faded[~read], features[~read])
    positive = np.asarray(features[..., 0]) > 0
    assert (np.asarray(faded[..., 0])[positive] == 0).all()  # class 0 alone selects feature 0
    np.testing.assert_allclose(faded[..., 1], features[..., 1])  # all select it alike


# What is looked at


class Source:
    """Of four images of 10 x 10."""

    shapes = np.full((4, 2), 10)
    class_pixels = np.array([[90, 10, 0], [60, 40, 0], [100, 0, 0], [80, 20, 0]])

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"id": index}


def test_images_are_those_in_which_a_class_is_largest():
    assert choose.images_of(Source(), 1, 2) == [1, 3]
    assert choose.images_of(Source(), 1, 9) == [1, 3, 0]  # not where it is absent
    assert choose.images_of(Source(), 2, 9) == []
    assert [choose.spread(Source(), 2)[i]["id"] for i in range(2)] == [0, 3]
    assert len(choose.spread(Source(), 9)) == len(choose.spread(Source(), None)) == 4


def test_rare_classes_are_the_tail_or_the_three_rarest():
    shares = [0.5, 0.005, 0.4, 0.001, 0.09]
    assert choose.rare_classes(shares, [True] * 5, 0.01) == [1, 3]
    assert choose.rare_classes(shares, [True, True, True, False, True], 0.01) == [1]
    assert choose.rare_classes(shares, [True] * 5, 0.0001) == [4, 1, 3]


def test_explaining_a_class_by_its_label_or_by_the_answer(tiny):
    shape = (16, 24)
    model = tiny(K)
    variables = network(model, shape)
    x = images(shape, batch=1)
    layers = find(model, variables, jnp.zeros((1, *shape, 3)))
    outputs = jax.jit(model.apply)(variables, normalized(x))
    answers = np.asarray(jnp.argmax(resize_bilinear(outputs["logits_drop"], shape), axis=-1))
    c = int(np.bincount(answers.ravel()).argmax())
    label = np.where(np.arange(24) < 7, c, (c + 1) % K)[None, None, :].repeat(16, axis=1)

    @partial(jax.jit, static_argnames="by_answer")
    def explained(label, by_answer=False):
        return explain.explain_batch(
            variables, x, label, c, model=model, layers=layers, by_answer=by_answer, **STATISTICS
        )

    heat, answer = explained(label)
    np.testing.assert_array_equal(answer, answers == c)
    # Where the classifier reads, the heat is the score without its constant, times the pixels.
    score = np.maximum(outputs["features_drop"] @ classifier_weights(variables)[c], 0)
    pixels = (label == c).sum() / score[0].size
    np.testing.assert_allclose(heat["features_drop"], pixels * score, rtol=1e-5, atol=1e-7)
    by_answer, _ = explained(label, by_answer=True)
    by_label, _ = explained(answers)
    np.testing.assert_allclose(by_answer["features"], by_label["features"])
    assert not np.allclose(heat["features"], by_label["features"])
