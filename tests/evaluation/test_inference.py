"""Windows, scales and flips against loops over them, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference
from dropclass_jax.ops.resize import resize_bilinear

K = 4
SIZE = (22, 37)  # no multiple of the network's stride
HEADS = ("plain", "drop")


@pytest.fixture
def network():
    """``(forward, images)``: two heads on a convolution of stride 4, in float64."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        kernel = rng.standard_normal((5, 5, 3, K))

        def forward(x):
            y = convolve(x, kernel, 4)
            return {"plain": y, "drop": jnp.tanh(y)[..., ::-1]}

        yield jax.jit(forward), jnp.asarray(rng.standard_normal((2, *SIZE, 3)))


def convolve(x, kernel, stride):
    order = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, "SAME", dimension_numbers=order)


def assert_same(scores, expected):
    assert scores.keys() == set(HEADS)
    for head, y in scores.items():
        assert (y.shape, y.dtype) == ((2, *SIZE, K), jnp.float64)
        np.testing.assert_allclose(y, expected[head], rtol=1e-12, atol=1e-14, err_msg=head)


def test_the_whole_image_gives_its_upsampled_logits(network):
    forward, images = network
    scores = jax.jit(lambda x: inference.scores(forward, x))(images)
    logits = forward(images)
    assert logits["plain"].shape == (2, 6, 10, K)
    assert_same(scores, {head: resize_bilinear(y, SIZE) for head, y in logits.items()})


@pytest.mark.parametrize("window", [SIZE, (100, 37), (1000, 1000)])
def test_one_window_is_the_whole_image_exactly(network, window):
    forward, images = network
    whole, slid = (
        inference.scores(forward, images),
        inference.scores(forward, images, window=window),
    )
    for head in HEADS:
        np.testing.assert_array_equal(slid[head], whole[head])


@pytest.mark.parametrize(
    ("window", "stride", "tops", "lefts"),
    [
        ((16, 16), (8, 8), (0, 6), (0, 8, 16, 21)),
        ((9, 20), None, (0, 6, 12, 13), (0, 13, 17)),
        ((22, 10), (5, 10), (0,), (0, 10, 20, 27)),
        ((50, 30), (50, 3), (0,), (0, 3, 6, 7)),  # higher than the image: cut to it
    ],
)
def test_windows_are_averaged_where_they_overlap(network, window, stride, tops, lefts):
    forward, images = network
    height, width = min(window[0], SIZE[0]), min(window[1], SIZE[1])
    total = {head: np.zeros((2, *SIZE, K)) for head in HEADS}
    count = np.zeros(SIZE)
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + height), slice(left, left + width)
            count[rows, columns] += 1
            for head, y in forward(images[:, rows, columns]).items():
                total[head][:, rows, columns] += resize_bilinear(y, (height, width))
    assert count.min() == 1
    slide = jax.jit(lambda x: inference.scores(forward, x, window=window, stride=stride))
    assert_same(slide(images), {head: y / count[:, :, None] for head, y in total.items()})


@pytest.mark.parametrize("length", [1, 5, 8, 9, 30])
@pytest.mark.parametrize(("extent", "step"), [(1, 1), (8, 8), (8, 5), (8, 1), (7, 6)])
def test_every_pixel_is_covered_and_the_last_window_is_flush(length, extent, step):
    grid, cover = inference.window_grid((length, 1), (extent, 1), (step, 1))
    tops = grid[:, 0]
    assert (grid[:, 1] == 0).all()
    assert tops[0] == 0
    assert tops[-1] + min(extent, length) == length
    assert (np.diff(tops) > 0).all()
    assert (np.diff(tops)[:-1] == step).all()
    assert np.diff(tops).max(initial=0) <= step
    extent = min(extent, length)
    expected = [sum(top <= y < top + extent for top in tops) for y in range(length)]
    assert min(expected) >= 1
    np.testing.assert_array_equal(cover[:, 0], expected)


def test_the_network_is_traced_once_for_all_windows(network):
    forward, images = network
    shapes = []

    def traced(x):
        shapes.append(x.shape)
        return forward(x)

    slide = partial(inference.scores, traced, window=(8, 8), stride=(1, 1))  # of 450 windows
    jax.make_jaxpr(slide)(images)
    assert set(shapes) == {(2, 8, 8, 3)}
    assert len(shapes) <= 2  # once for the shapes of what it returns


def test_scales_and_flips_average_probabilities(network):
    forward, images = network
    mean = dict.fromkeys(HEADS, 0)
    for height, width in ((11, 18), SIZE, (33, 56)):  # 0.5, 1 and 1.5 times 22 and 37, rounded
        view = resize_bilinear(images, (height, width))
        for head, y in forward(view).items():
            mean[head] += jax.nn.softmax(resize_bilinear(y, SIZE)) / 6
        for head, y in forward(view[:, :, ::-1]).items():
            mean[head] += jax.nn.softmax(resize_bilinear(y, SIZE))[:, :, ::-1] / 6
    scores = inference.scores(forward, images, scales=(0.5, 1, 1.5), flip=True)
    assert_same({head: jnp.exp(y) for head, y in scores.items()}, mean)


def test_windows_slide_over_the_scaled_and_mirrored_image(network):
    forward, images = network
    settings = {"window": (12, 16), "stride": (6, 9)}
    scores = inference.scores(forward, images, scales=(2.0,), flip=True, **settings)
    view = resize_bilinear(images, (44, 74))
    plain = inference.scores(forward, view, **settings)
    mirrored = inference.scores(forward, view[:, :, ::-1], **settings)
    for head in HEADS:
        pair = (plain[head], mirrored[head][:, :, ::-1])
        expected = sum(jax.nn.softmax(resize_bilinear(y, SIZE)) for y in pair) / 2
        np.testing.assert_allclose(jax.nn.softmax(scores[head]), expected, rtol=1e-12)


def test_with_flips_a_mirrored_image_gives_the_mirrored_scores(network):
    forward, images = network
    views = {"scales": (0.75, 1.0), "flip": True}
    scores = inference.scores(forward, images, **views)
    mirrored = inference.scores(forward, images[:, :, ::-1], **views)
    assert_same({head: y[:, :, ::-1] for head, y in mirrored.items()}, scores)
    plain = inference.scores(forward, images)["plain"]
    alone = inference.scores(forward, images[:, :, ::-1])["plain"][:, :, ::-1]
    assert np.abs(plain - alone).max() > 1e-3  # which the network by itself does not


def test_a_symmetric_network_gains_nothing_from_flips():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        kernel = rng.standard_normal((3, 3, 3, K))
        kernel += kernel[:, ::-1]

        def forward(x):
            return {"plain": convolve(x, kernel, 2)}

        images = jnp.asarray(rng.standard_normal((2, 21, 33, 3)))
        plain = inference.scores(forward, images)
        both = inference.scores(forward, images, flip=True)
        np.testing.assert_allclose(
            both["plain"], jax.nn.log_softmax(plain["plain"]), rtol=1e-9, atol=1e-12
        )
        mirrored = inference.predictions(inference.scores(forward, images[:, :, ::-1]))["plain"]
        predicted = inference.predictions(plain)["plain"]
        assert predicted.dtype == jnp.uint8
        np.testing.assert_array_equal(mirrored[:, :, ::-1], predicted)
        np.testing.assert_array_equal(inference.predictions(both)["plain"], predicted)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({"stride": (4, 4)}, "stride 4x4 moves a window: give a window as well"),
        ({"window": (0, 8)}, "window 0x8: height and width are 1 or more"),
        ({"window": (8, 8), "stride": (8, 9)}, "stride 8x9 does not fit window 8x8: it is 1 at"),
        ({"window": (8, 8), "stride": (0, 4)}, "stride 0x4 does not fit window 8x8"),
        ({"scales": ()}, "scales none: give one or more factors above 0"),
        ({"scales": (1.0, 0.0)}, "scales 1,0: give one or more factors above 0"),
        ({"scales": (float("nan"),)}, "scales nan: give one or more factors above 0"),
    ],
)
def test_views_that_cannot_be_shown_are_refused(views, message):
    with pytest.raises(UserError, match=message):
        inference.scores(lambda x: {"plain": x}, jnp.zeros((1, 16, 16, 3)), **views)


def test_views_in_words():
    describe, views = inference.describe, inference.Views
    assert describe(views()) == "whole"
    assert describe(views(flip=True)) == "whole, flip"
    assert describe(views((128, 128), (85, 64))) == "slide 128x128/85x64"
    assert describe(views((769, 769))) == "slide 769x769/513x513"
    full = views((12, 9), scales=(0.75, 1, 1.25), flip=True)
    assert describe(full) == "slide 12x9/8x6, scales 0.75 1 1.25, flip"
