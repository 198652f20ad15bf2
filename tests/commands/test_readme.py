"""What the README shows works as it stands."""

import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dropclass_jax import dropclass, models, objective
from dropclass_jax.experiment.config import flatten, load_config
from dropclass_jax.models import __main__ as table

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
BLOCKS = re.findall(
    r"<!-- tests/commands/test_readme.py runs this block as it stands. -->\n```python\n(.*?)```",
    README,
    flags=re.DOTALL,
)


def test_the_loop_for_one_s_own_network():
    """The block, given a network and data: its loss falls at a fixed moment of training."""
    block = BLOCKS[0]
    assert len(block.strip().splitlines()) <= 18
    keys = jax.random.split(jax.random.key(0), 5)
    images = jax.random.normal(keys[0], (2, 16, 16, 3))
    start = {
        "backbone": jax.random.normal(keys[1], (3, 8)),
        "head": jax.random.normal(keys[2], (8, 4)),
        "refine": jax.random.normal(keys[3], (8, 8)) * 0.5,
    }
    names = {
        "jax": jax,
        "jnp": jnp,
        "backbone": lambda params, x: jnp.tanh(x[:, ::4, ::4] @ params["backbone"]),
        "normalize": lambda x: x / jnp.sqrt(jnp.mean(x**2) + 1e-5),
        "update": lambda p, g: jax.tree.map(lambda a, b: a - 0.1 * b, p, g),
        "params": start,
        "images": images,
        "labels": jnp.where(images[..., 0] > 0, 2, 0),
        "num_steps": 20,
        "num_classes": 4,
        "key": keys[4],
    }
    exec(block, names)

    def at_half(params):
        keep = dropclass.keep_all(4)
        return names["loss"](params, images, names["labels"], keep, 0.5)

    assert at_half(names["params"]) < 0.7 * at_half(start)


def test_a_backbone_of_one_s_own(monkeypatch):
    """The block adds one that goes with every head, and that trains by each of its maps."""
    monkeypatch.setattr(models, "BACKBONES", dict(models.BACKBONES))
    block = BLOCKS[1]
    assert len(block.strip().splitlines()) <= 50
    exec(block, {"__name__": "readme"})
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
    shown = README.split("<!-- models -->")[1].split("<!-- /models -->")[0]
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


def test_the_options_it_lists_exist():
    table = README.split("## Options")[1].split("##")[0]
    known = dict(flatten(load_config("configs/base.py")))
    for row in re.findall(r"^\| `([^|]*)` \|", table, flags=re.MULTILINE):
        for key in re.split("`, `", row):
            prefix, _, names = key.partition(".{")
            keys = [f"{prefix}.{name}" for name in names.rstrip("}").split(",")] if names else [key]
            assert not set(keys) - known.keys()


def test_the_files_it_names_exist():
    root = Path(__file__).parent.parent.parent
    for name in re.findall(
        r"`((?:launch|configs|dropclass_jax|tests|results)/[\w./]+\w)`?", README
    ):
        assert (root / name).exists(), name
