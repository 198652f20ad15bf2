"""From a config to the values that data and loss take."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from tiny import changed

from dropclass_jax import losses
from dropclass_jax.data import crops, pipeline, sampling, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.crops import CropRule
from dropclass_jax.data.photometric import JitterRange
from dropclass_jax.errors import UserError
from dropclass_jax.experiment import build, check
from dropclass_jax.experiment.batches import load_data, train_batches
from dropclass_jax.experiment.config import from_values, load_config
from dropclass_jax.losses import class_prior, class_weights, hard_examples, pixels, regions


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = load_config("configs/streets.py")
    config.data.prepared_dir = str(tmp_path_factory.mktemp("prepared"))
    config.data.options.update(train=8, val=1, val_out=1, height=32, width=64)
    config.augment.crop = (24, 40)
    return config


@pytest.fixture(scope="module")
def dataset(config):
    return load_data(config)


def test_every_option_of_the_batches_arrives(config, dataset):
    values = {
        "seed": 7,
        "data.sampling.class_uniform": 0.5,
        "data.sampling.class_crop": False,
        "augment.scale": (0.75, 1.25),
        "augment.scale_step": 0.25,
        "augment.flip": False,
        "augment.jitter.brightness": 10.0,
        "augment.jitter.contrast": 0.2,
        "augment.jitter.saturation": 0.3,
        "augment.jitter.hue": 4,
        "augment.rare_crop": 0.5,
        "augment.cat_max_ratio": 0.7,
    }
    config = changed(config, values)
    got = train_batches(config, dataset, process_index=1, process_count=2)
    source = dataset.splits["train"]
    expected = pipeline.train_iterator(
        source,
        seed=7,
        batch_size=8,
        augmentation=Augmentation(
            crop=(24, 40),
            scales=transforms.scales((0.75, 1.25), 0.25),
            flip=False,
            jitter=JitterRange(10.0, 0.2, 0.3, 4),
            crop_rule=CropRule(0.5, crops.inverse_odds(dataset.class_pixels["train"]), 0.7),
        ),
        sampler=sampling.class_uniform(source.class_pixels, 0.5, crop=False),
        process_index=1,
        process_count=2,
    )
    for batch, other in itertools.islice(zip(got, expected, strict=True), 6):
        assert batch["image"].shape == (4, 24, 40, 3)
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def test_the_defaults_are_scale_crop_and_flip_alone(config, dataset):
    got = train_batches(config, dataset)
    expected = pipeline.train_iterator(
        dataset.splits["train"],
        seed=0,
        batch_size=8,
        augmentation=Augmentation((24, 40), transforms.scales((0.5, 2.1), 0.1)),
    )
    for batch, other in itertools.islice(zip(got, expected, strict=True), 3):
        np.testing.assert_array_equal(batch["image"], other["image"])


@pytest.mark.parametrize("rule", class_weights.RULES)
def test_class_weights_by_rule_and_by_file_agree(config, dataset, rule, tmp_path):
    expected = class_weights.RULES[rule](dataset.splits["train"].class_pixels)
    path = tmp_path / "weights.json"
    class_weights.write(path, dataset.info.classes, expected)
    for value in (rule, str(path)):
        settings = changed(config, {"loss.class_weights": value})
        built = build.build(settings, dataset)
        got = built.train_step.keywords["recipe"].class_weights
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_no_class_weights(config, dataset):
    assert build.build(config, dataset).train_step.keywords["recipe"].class_weights is None


def test_the_loss_and_what_it_takes_arrive(config, dataset):
    def built(values):
        return build.build(changed(config, values), dataset).train_step.keywords["recipe"].loss

    assert built({}) == losses.LOSSES["cross_entropy"]
    ohem = built({"loss.name": "ohem", "loss.ohem.threshold": 0.9, "loss.logit_adjustment": 2.0})
    assert ohem.of_pixels.func is hard_examples.ohem
    assert ohem.of_pixels.keywords == {"threshold": 0.9, "min_kept": 0.2}
    assert not ohem.weighs_labels_alone
    prior = class_prior.log_prior(dataset.splits["train"].class_pixels.sum(0))
    np.testing.assert_allclose(ohem.offsets, 2 * prior, rtol=1e-6)
    assert built({"loss.name": "focal", "loss.focal.gamma": 3.0}).of_pixels.keywords["gamma"] == 3
    dice = built({"loss.name": "dice", "loss.region_weight": 0.5, "loss.logit_variation": 4.0})
    assert dice.of_pixels is pixels.cross_entropy
    assert dice.of_regions is regions.dice
    assert (dice.region_weight, dice.variation.sigma) == (0.5, 4.0)
    rarity = class_prior.rarity(dataset.splits["train"].class_pixels.sum(0))
    np.testing.assert_allclose(dice.variation.scale, rarity, rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dropclass.refine", "no", "dropclass.refine is 'block' or 'none', not 'no'"),
        ("dropclass.refine_init", "he", "dropclass.refine_init is 'default' or 'identity'"),
        (
            "dropclass.draw_per",
            "pixel",
            "draw_per is one of 'batch', 'example', 'tile', not 'pixel'",
        ),
        ("dropclass.tile", 0, "config.dropclass.tile is 1 or more, not 0"),
        ("dropclass.count", -1, "config.dropclass.count is 0 .for a quarter .* or more, not -1"),
        ("dropclass.count", 19, "config.dropclass.count is below 19, the number of classes"),
        ("dropclass.stratify", True, "config.dropclass.stratify is for draw_per='tile'"),
        ("loss.name", "ohm", "config.loss.name is one of 'cross_entropy', 'ohem'.*not 'ohm'"),
        ("loss.ohem.threshold", 0.0, "config.loss.ohem.threshold is above 0, up to 1, not 0.0"),
        ("loss.ohem.min_kept", 100_000.0, "config.loss.ohem.min_kept is 0 to 1, not 100000.0"),
        ("loss.focal.gamma", -1.0, "config.loss.focal.gamma is 0 or more"),
        ("loss.region_weight", -1.0, "config.loss.region_weight is 0 or more"),
        ("loss.logit_variation", -1.0, "config.loss.logit_variation is 0 or more"),
        ("loss.logit_adjustment", -1.0, "config.loss.logit_adjustment is 0 or more, not -1.0"),
        (
            "loss.class_weights",
            "inverted",
            "is one of 'none', .*'effective_number' or a .json file",
        ),
        ("loss.class_weights", "dataset", "no customary class weights; .*median_frequency"),
        ("loss.class_weights", "gone.json", "gone.json cannot be read"),
    ],
)
def test_a_value_that_cannot_work_is_refused(config, dataset, key, value, message):
    settings = changed(config, {"dropclass.draw_per": "batch", key: value})
    with pytest.raises(UserError, match=message):
        (check.check(settings), build.build(settings, dataset))


def test_tiles_are_no_finer_than_the_features(config, dataset, named_tiny):
    """A crop of 24 x 40 has 6 x 10 positions at stride 4."""
    settings = {"model.name": "tiny", "dropclass.draw_per": "tile", "dropclass.count": 5}
    message = "tile of 3 pixels is finer than the features, which have 6x10 .* take 4 or more"
    with pytest.raises(UserError, match=message):
        build.build(changed(config, {**settings, "dropclass.tile": 3}), dataset)
    built = build.build(changed(config, {**settings, "dropclass.tile": 4}), dataset)
    _, draw = built.train_step.keywords["dropclass"]
    assert (draw.per, draw.tile, draw.count, draw.stratify) == ("tile", 4, 5, False)
    np.testing.assert_allclose(draw.class_odds, np.full(19, 1 / 19), rtol=1e-6)


def test_no_count_is_a_quarter_of_the_classes(config, dataset, named_tiny):
    built = build.build(changed(config, {"model.name": "tiny", "dropclass.count": 0}), dataset)
    assert built.train_step.keywords["dropclass"][1].count == 5  # of 19


@pytest.mark.parametrize(("old", "per"), [(True, "example"), (False, "batch")])
def test_a_config_from_before_tiles_is_read(config, old, per):
    values = json.loads(json.dumps(config.to_dict()))
    del values["dropclass"]["draw_per"], values["dropclass"]["count"]
    values["dropclass"]["draw_per_example"] = old
    read = from_values(values)
    assert (
        read.to_dict()
        == changed(config, {"dropclass.draw_per": per, "dropclass.count": 1}).to_dict()
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("augment.jitter.hue", 100, "jitter hue 100"),
        ("augment.rare_crop", 1.5, "rare_crop 1.5"),
        ("augment.cat_max_ratio", 0.0, "cat_max_ratio 0.0"),
        ("augment.scale_step", 0.0, "scale_range"),
        ("data.sampling.class_uniform", -1.0, "class_uniform -1.0"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(config, dataset, key, value, message):
    with pytest.raises(UserError, match=message):
        train_batches(changed(config, {key: value}), dataset)
