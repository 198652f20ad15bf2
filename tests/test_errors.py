"""How a mistake is worded: the name that was meant."""

import pytest

from dropclass_jax import errors
from dropclass_jax.experiment.config import flatten, is_section
from dropclass_jax.experiment.defaults import get_config

KEYS = {key: value for key, value in flatten(get_config()) if not is_section(value)}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("optim.learning_rate", "optim.lr"),
        ("optim.learning_rat", "optim.lr"),
        ("learning_rate", "optim.lr"),
        ("lr", "optim.lr"),
        ("optim.wd", "optim.weight_decay"),
        ("optim.weigth_decay", "optim.weight_decay"),
        ("bs", "batch_size"),
        ("train.epochs", "total_steps"),
        ("optim.total_steps", "total_steps"),
        ("data.num_workers", "data.num_threads"),
        ("crop_size", "augment.crop"),
        ("dropclass.alhpa", "dropclass.alpha"),
        ("dropclass.lambda.start", "dropclass.lambda_.start"),
        ("model.backbone", "model.name"),
        ("init.pretrained", "init.path"),
        ("hue", "augment.jitter.hue"),
    ],
)
def test_the_key_that_was_meant(name, key):
    assert errors.nearest(name, KEYS) == f"; did you mean {key}?"


def test_nothing_is_like_nonsense():
    assert errors.nearest("zzz", KEYS) == ""
    assert errors.nearest("zzz", ()) == ""


def test_a_message_is_whole_sentences():
    assert (
        errors.unknown("arm", "zzz", ("plain", "drop")) == "unknown arm 'zzz'. There is plain, drop"
    )
    meant = "unknown arm 'plian'; did you mean plain? There is plain, drop"
    assert errors.unknown("arm", "plian", ("plain", "drop")) == meant
    assert errors.unknown("arm", "zzz", ("plain",), there_is="") == "unknown arm 'zzz'"


def test_every_synonym_is_of_a_key():
    assert errors.SYNONYMS.keys() <= {part for key in KEYS for part in key.split(".")}
