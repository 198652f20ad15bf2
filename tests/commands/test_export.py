"""A run as one file: what it computes, and that nothing but jax is needed to call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from dropclass_jax import export
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference
from dropclass_jax.evaluation.inference import Views
from dropclass_jax.export import Sizes
from dropclass_jax.runs import trained_network

ANY = Sizes()

pytestmark = pytest.mark.usefixtures("named_tiny")


@pytest.fixture
def network(untrained):
    return untrained


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (*shape, 3), dtype=np.uint8)


def scores_of(network, images, head=None, views=inference.WHOLE) -> np.ndarray:
    score = jax.jit(trained_network.scorer(network, head, views))
    return np.asarray(score(network.variables, images))


WITHOUT_US = """
import sys

import jax
import numpy as np
from jax import export

model = export.deserialize(open(sys.argv[1], "rb").read())
for shape in ((1, 24, 32, 3), (3, 17, 29, 3)):
    images = np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)
    classes = model.call(images)
    np.save(f"{sys.argv[1]}.{shape[0]}.npy", classes)
imported = {name.split(".")[0] for name in sys.modules}
assert not imported & {"dropclass_jax", "flax", "optax", "orbax"}
"""


def test_a_file_of_free_sizes_is_called_without_this_project(network, tmp_path):
    path = tmp_path / "new" / "model.jax"
    content = export.export_run(network.workdir, path, ANY)
    assert content == json.loads((tmp_path / "new" / "model.jax.json").read_text())
    assert content["input"] == {"shape": ["b", "h", "w", 3], "dtype": "uint8", "channels": "RGB"}
    assert content["output"] == {"shape": ["b", "h", "w"], "dtype": "uint8", "is": "classes"}
    assert content["classes"][2] == {"value": 2, "name": "grass", "color": [0, 200, 0]}
    assert content["window"] is None  # of 8-bit images
    assert content["platforms"] == ["cpu", "cuda", "tpu"]
    assert (content["head"], content["views"], content["step"]) == ("drop", "whole", 0)
    assert content["check"]["shape"] == [2, 32, 48, 3]
    assert content["check"]["agreement"] > 0.999

    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, str(path)],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for shape in ((1, 24, 32), (3, 17, 29)):
        classes = np.load(f"{path}.{shape[0]}.npy")
        expected = scores_of(network, noise(*shape)).argmax(axis=-1)
        assert (classes.dtype, classes.shape) == (np.uint8, shape)
        assert len(np.unique(expected)) > 1
        assert (classes == expected).mean() > 0.999


def test_logits_of_fixed_sizes(network):
    head, views = "plain", Views(window=(16, 16), scales=(0.75,), flip=True)
    sizes = Sizes(2, 24, 32)
    exported = export.lower(
        network, sizes, output="logits", head=head, views=views, platforms=("cpu",)
    )
    logits = np.asarray(exported.call(noise(2, 24, 32)))
    assert (logits.dtype, logits.shape) == (np.float32, (2, 24, 32, 4))
    expected = scores_of(network, noise(2, 24, 32), head, views)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(ValueError, match=r"shape"):
        exported.call(noise(1, 24, 32))


def test_what_the_comparison_says_is_the_difference(network):
    """Of a file that was made from another head, most logits are other ones."""
    other = export.lower(network, ANY, output="logits", head="plain", platforms=("cpu",))
    about = export.compare(other, network, Sizes(1, 8, 8), output="logits", head="drop")
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    ours, theirs = (scores_of(network, images, head) for head in ("drop", "plain"))
    assert about["max_abs_difference"] == pytest.approx(np.abs(ours - theirs).max(), rel=1e-4)
    assert about["max_abs"] == pytest.approx(np.abs(ours).max(), rel=1e-4)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        (ANY, {"views": Views(window=(9, 9))}, "slide 9x9/6x6 depends on the images' size: give"),
        (ANY, {"views": Views(scales=(1.0, 2.0))}, "depends on the images' size"),
        (Sizes(0), {}, "a batch of 0: give 1 or more, or any"),
        (ANY, {"platforms": ("gpu",)}, "--platforms: 'gpu' is none of cpu, cuda, rocm, tpu"),
        (ANY, {"platforms": ()}, "--platforms: give some of"),
        (ANY, {"output": "boxes"}, "--output is one of classes, logits, not 'boxes'"),
    ],
)
def test_a_user_s_mistake_is_told(network, sizes, options, message):
    with pytest.raises(UserError, match=message):
        export.lower(network, sizes, **options)


def test_sizes_from_the_command_line(network):
    assert export.free_or_whole("size", "any", 2) == [None, None]
    assert export.free_or_whole("size", "512,1024", 2) == [512, 1024]
    for text in ("512", "512,x", "1,2,3", ""):
        with pytest.raises(UserError, match="--size is 512,1024 or the like, or any, not"):
            export.free_or_whole("size", text, 2)


def test_a_file_that_cannot_be_written_is_told(network, tmp_path):
    exported = export.lower(network, Sizes(1, 8, 8), platforms=("cpu",))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/model\.jax cannot be written: .*; choose another"):
        export.write(tmp_path / "file" / "model.jax", exported)
