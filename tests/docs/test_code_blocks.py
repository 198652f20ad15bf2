"""The code that README and docs show works as it stands."""

import re

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pages import ROOT, block, blocks
from report_fixture import STREETS, classes_of, entry_of

from dropclass_jax import dropclass, losses, models, objective
from dropclass_jax.errors import UserError
from dropclass_jax.experiment import check
from dropclass_jax.experiment.config import flatten, load_config
from dropclass_jax.models import __main__ as table
from dropclass_jax.reporting import page
from dropclass_jax.sweeps import plan

README = (ROOT / "README.md").read_text()
DEVELOPMENT = "docs/development.md"
# A text of every Python block, which the test of that block looks it up by.
TESTED = (
    "train_step(params, key",
    "class Vgg",
    "def poly_sum",
    "class Roads",
    "def recall_bars",
    "def get_arms",
    "defaults.from_scratch",
    "export.deserialize",  # in test_commands.py
)


def test_every_python_block_has_a_test():
    found = [block.text for block in blocks("python")]
    assert [sum(text in block for block in found) for text in TESTED] == [1] * len(TESTED)
    assert len(found) == len(TESTED)


def test_the_loop_for_one_s_own_network():
    """The block, given a network and data: the loss falls at a fixed moment, in one compilation."""
    code = block("README.md", "train_step(params, key")
    assert len(code.strip().splitlines()) <= 26
    draw = np.random.default_rng(0)
    images = draw.normal(size=(2, 16, 16, 3)).astype(np.float32)
    shapes = {"backbone": (3, 8), "head": (8, 4), "refine": (8, 8)}
    start = {k: draw.normal(size=v).astype(np.float32) for k, v in shapes.items()}
    start = jax.device_put({**start, "refine": start["refine"] / 2})
    names = {
        "jax": jax,
        "jnp": jnp,
        "backbone": lambda params, x: jnp.tanh(x[:, ::4, ::4] @ params["backbone"]),
        "normalize": lambda x: x / jnp.sqrt(jnp.mean(x**2) + 1e-5),
        "update": lambda p, g: jax.tree.map(lambda a, b: a - 0.1 * b, p, g),
        "params": start,
        "images": images,
        "labels": np.where(images[..., 0] > 0, 2, 0),
        "num_steps": 20,
        "num_classes": 4,
        "key": jax.random.key(0),
    }
    exec(code, names)
    assert names["train_step"]._cache_size() == 1

    @jax.jit
    def at_half(params):
        keep = dropclass.keep_all(4)
        return names["loss"](params, images, names["labels"], keep, 0.5)

    assert at_half(names["params"]) < 0.7 * at_half(start)


def test_a_backbone_of_one_s_own(monkeypatch):
    """The block adds one that goes with every head, and that trains by each of its maps."""
    monkeypatch.setattr(models, "BACKBONES", dict(models.BACKBONES))
    code = block(DEVELOPMENT, "class Vgg")
    assert len(code.strip().splitlines()) <= 50
    exec(code, {"__name__": "docs"})
    images = jax.random.normal(jax.random.key(0), (1, 33, 48, 3))
    for head in models.HEADS:
        model = models.create(f"{head}_vgg", num_classes=5)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        outputs = jax.eval_shape(model.apply, shapes, images)
        assert outputs["logits_drop"].shape[-1] == 5
    backbone = models.create("concat_vgg", num_classes=5).backbone
    maps, _ = backbone.init_with_output(jax.random.key(0), images, False)
    assert [x.shape[1:3] for x in maps] == [(9, 12), (5, 6), (3, 3), (2, 2)]
    assert models.names()["vgg"] == ("deeplab_v3", "vgg")


def test_the_table_of_networks():
    """Counts as the command makes them, for one network a family; it is told how to print all."""
    shown = (
        (ROOT / "docs/networks.md")
        .read_text()
        .split("<!-- models -->")[1]
        .split("<!-- /models -->")[0]
    )
    rows = dict(re.findall(r"^\| `(\w+)`[^|]*\|(.*)\|$", shown, flags=re.MULTILINE))
    assert list(rows) == [name for name, *_ in table.ROWS]
    for name, num_classes, auxiliary, published in table.ROWS:
        if name not in ("hrnet_w18_small_v1", "deeplab_v3_resnet50", "lr_aspp_mobilenet_v3_small"):
            continue
        ours = table.size(name, num_classes, auxiliary)
        cells = [cell.strip() for cell in rows[name].split("|")]
        assert cells[0] == f"{ours.parameters / 1e6:.2f}"
        assert cells[2] == f"{ours.with_dropclass / 1e6:.2f}"
        assert cells[3] == f"{ours.multiply_adds / 2**30:.1f}"
        np.testing.assert_allclose(float(cells[5]), ours.flops / 1e9, rtol=0.05)  # jax's versions
        if published.multiply_adds:
            np.testing.assert_allclose(
                ours.multiply_adds / 2**30, published.multiply_adds, atol=0.05
            )


def linen_head(kernel):
    module = nn.Dense(kernel.shape[1], use_bias=False)
    return lambda x: module.apply({"params": {"kernel": kernel}}, x)


def nnx_head(kernel):
    module = nnx.Linear(*kernel.shape, use_bias=False, rngs=nnx.Rngs(0))
    module.kernel[...] = kernel
    return module


@pytest.mark.parametrize("make_head", [linen_head, nnx_head])
def test_any_head_will_do(make_head):
    features = jax.random.normal(jax.random.key(0), (2, 3, 4, 6))
    kernel = jax.random.normal(jax.random.key(1), (6, 5))
    keep = jnp.ones(5).at[2].set(0)
    head = make_head(kernel)
    expected = dropclass.average_features(features, lambda x: x @ kernel, keep)
    np.testing.assert_allclose(
        dropclass.average_features(features, head, keep), expected, atol=1e-6
    )
    shared = dropclass.average_features_shared(features, dropclass.shared_importance(head, 6), keep)
    np.testing.assert_allclose(shared, expected, atol=1e-6)
    labels = jnp.zeros((2, 12, 16), jnp.uint8)
    terms = objective.loss_terms(
        {"logits": head(features), "logits_drop": head(shared)}, labels, keep
    )
    assert np.isfinite(objective.total(terms, 0.5))


def test_a_loss_of_one_s_own(monkeypatch):
    """PolyLoss by its formula, with upsampled logits, ignored pixels and class weights."""
    monkeypatch.setattr(losses, "LOSSES", dict(losses.LOSSES))
    names = {}
    exec(block(DEVELOPMENT, "def poly_sum"), names)
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = draw.integers(0, 5, (2, 6, 8))
    labels[0, :2] = 255
    weights = np.arange(1.0, 6)

    @jax.jit
    def pair_and_probabilities(logits):
        pair = losses.LOSSES["poly"].of_pixels(logits, labels, class_weights=weights)
        return pair, jax.nn.softmax(jax.image.resize(logits, (2, 6, 8, 5), "bilinear"))

    (total, over), probabilities = pair_and_probabilities(logits)
    own = np.where(labels == 255, 0, labels)
    p = np.take_along_axis(np.asarray(probabilities), own[..., None], axis=-1)[..., 0]
    weight = np.where(labels == 255, 0, weights[own])
    np.testing.assert_allclose(total, np.sum(weight * (1 - p - np.log(p))), rtol=1e-5)
    np.testing.assert_allclose(over, np.sum(weight), rtol=1e-6)


def test_a_data_set_of_one_s_own(tmp_path):
    names = {}
    exec(block(DEVELOPMENT, "class Roads"), names)
    mask = np.zeros((8, 10), np.uint8)
    mask[2:4] = 1
    for split in ("train", "val"):
        (tmp_path / "roads" / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "roads" / split / "a.jpg"), np.zeros((8, 10, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "roads" / split / "a.png"), mask)
    builder = names["Roads"](prepared_dir=tmp_path / "prepared", source_dir=tmp_path / "roads")
    builder.prepare()
    np.testing.assert_array_equal(builder.source("val")[0]["label"], mask)
    assert builder.class_pixels()["train"].tolist() == [60, 20]
    cv2.imwrite(str(tmp_path / "roads/train/a.png"), mask + 5)
    builder = names["Roads"](prepared_dir=tmp_path / "prepared", source_dir=tmp_path / "roads")
    with pytest.raises(UserError, match=r"a\.png.*0 or 1"):
        builder.prepare()


def test_a_figure_of_one_s_own():
    names = {}
    exec(block(DEVELOPMENT, "def recall_bars"), names)
    classes = classes_of(STREETS)
    entry = entry_of(np.eye(len(classes)) * 9 + 1, "val", "drop")
    figure = names["recall_bars"](entry, classes)
    (axes,) = figure.axes
    assert axes.get_yticklabels()[-1].get_text() == "road"
    assert axes.patches[-1].get_width() == entry["accuracy"][0]
    assert 'aria-label="Recall' in page.vector(figure, "recall", "Recall of every class")


def test_a_sweep_of_one_s_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(block("docs/sweeps.md", "def get_arms"))
    config = load_config("configs/streets.py")
    sweep = plan.load(str(path), config)
    assert sweep.question.endswith("?")
    assert list(sweep.arms) == ["plain", "control", "alpha_1"]
    known = dict(flatten(config))
    assert all(key in known for settings in sweep.arms.values() for key in settings)


def test_a_config_of_one_s_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(block("docs/training.md", "defaults.from_scratch"))
    config = load_config(f"{path}:hrnet_w48")
    assert (config.model.name, config.data.name) == ("hrnet_w48", "folder")
    check.check(config)
