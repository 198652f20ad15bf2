"""Files of weights, and the commands that take them."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import safetensors.flax
import tiny
from flax import traverse_util

from dropclass_jax import convert, models, train
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import load_config
from dropclass_jax.models import pretrained, weight_files
from dropclass_jax.runs import checkpoint

ARRAYS = {"conv1.weight": np.arange(24.0, dtype=np.float32).reshape(2, 3, 2, 2), "n": np.int64(3)}


@pytest.mark.parametrize("suffix", weight_files.OUR_SUFFIXES)
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    weight_files.write(path, ARRAYS)
    read = weight_files.read(path)
    assert read.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(read[key], array)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_bfloat16_safetensors(tmp_path):
    values = jnp.asarray([1.5, -2.0, 3e38], jnp.bfloat16)
    safetensors.flax.save_file({"x": values}, tmp_path / "file.safetensors")
    read = weight_files.read(tmp_path / "file.safetensors")["x"]
    np.testing.assert_array_equal(read.astype(np.float32), values.astype(np.float32))


def test_bfloat16_npz(tmp_path):
    """NumPy stores bfloat16 as two bytes of nothing."""
    values = np.asarray(jnp.asarray([1.5, -2.0, 3e38], jnp.bfloat16))
    np.savez(tmp_path / "file.npz", x=values)
    read = weight_files.read(tmp_path / "file.npz")["x"]
    np.testing.assert_array_equal(read.astype(np.float32), values.astype(np.float32))
    np.savez(tmp_path / "file.npz", x=np.zeros(2, "f4,i2"))
    with pytest.raises(UserError, match=r"'x' is \[.*\]: want arrays of real numbers"):
        weight_files.read(tmp_path / "file.npz")


@pytest.mark.parametrize("suffix", weight_files.OUR_SUFFIXES)
def test_classes_come_with_the_tensors(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    weight_files.write(path, ARRAYS, ("road", "Straße"))
    assert weight_files.read(path).keys() == ARRAYS.keys()
    assert weight_files.read_classes(path) == ("road", "Straße")
    weight_files.write(path, ARRAYS)
    assert weight_files.read_classes(path) is None


WRONG = {
    "missing": ("none.npz", None, "none.npz do not exist"),
    "an unknown suffix": ("file.h5", b"x", "are none of"),
    "an empty folder": ("run/", None, "holds no checkpoint; train there first"),
    "a damaged npz": ("file.npz", b"PK\x03\x04 cut short", "no whole .npz file"),
    "a damaged safetensors": ("file.safetensors", b"abc", "no whole .safetensors file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_bad_file_is_one_line(tmp_path, name):
    filename, content, message = WRONG[name]
    path = tmp_path / filename
    if filename.endswith("/"):
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        checkpoint.read_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_pickled_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "file.npz", x=np.array({"a": 1}, dtype=object))
    with pytest.raises(UserError, match="of plain arrays"):
        weight_files.read(tmp_path / "file.npz")


def test_without_torch_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    (tmp_path / "file.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"pip install torch.*dropclass_jax\.convert"):
        weight_files.read(tmp_path / "file.pth")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_torch_files(tmp_path, wrapper):
    torch = pytest.importorskip("torch", reason="an optional extra")
    path = tmp_path / "file.pth"
    tensors = {key: torch.as_tensor(array) for key, array in ARRAYS.items()}
    tensors["half"] = torch.tensor([1.5], dtype=torch.bfloat16)
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, path)
    read = weight_files.read(path)
    assert read.keys() == tensors.keys()
    np.testing.assert_array_equal(read["conv1.weight"], ARRAYS["conv1.weight"])
    assert read["half"] == 1.5


def test_bad_torch_files(tmp_path):
    torch = pytest.importorskip("torch", reason="an optional extra")
    path = tmp_path / "file.pth"
    torch.save(torch.nn.Linear(2, 3), path)  # a whole module: code, not weights
    with pytest.raises(UserError, match="hold more than tensors"):
        weight_files.read(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="hold no state dict"):
        weight_files.read(path)
    path.write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"file\.pth"):
        weight_files.read(path)


def npz_of(header: str, content: bytes = bytes(64)) -> bytes:
    """An archive of one array with a header of one's own."""
    text = header.encode().ljust(117) + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", member)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"hello")
    return file.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def safetensors_of(dtype: str, shape: list[int], size: int) -> bytes:
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


START = "{'descr': '%s', 'fortran_order': False, 'shape': "
HOSTILE = {
    "an .npy that is called .npz": (".npz", npy_of(np.ones(3)), "no whole .npz file"),
    "4 TB in 64 bytes": (".npz", npz_of(START % "<f4" + "(1000000000000,)}"), "no whole .npz file"),
    "a negative shape": (".npz", npz_of(START % "<f4" + "(-1,)}"), "no whole .npz file"),
    "a header that does not end": (".npz", npz_of(START % "<f4" + "("), "no whole .npz file"),
    "texts": (".npz", npz_of(START % "<U4" + "(1,)}"), "'x' is <U4: want arrays of real numbers"),
    "complex numbers": (".npz", npz_of(START % "<c8" + "(1,)}"), "'x' is complex64"),
    "another zip": (".npz", zipped("a.txt"), "'a.txt' is no array"),
    "no arrays": (".npz", zipped(), "hold no arrays"),
    "float8": (".safetensors", safetensors_of("F8_E4M3", [16], 16), "'x' is F8_E4M3: want F64"),
    "4 TB in 16 bytes": (".safetensors", safetensors_of("F32", [10**12], 4 * 10**12), "no whole"),
    "an endless header": (
        ".safetensors",
        struct.pack("<Q", 2**60) + b"{}",
        "no whole .safetensors",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(tmp_path, name):
    suffix, content, message = HOSTILE[name]
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        weight_files.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_tensors_that_are_no_plain_ones_are_named(tmp_path):
    torch = pytest.importorskip("torch", reason="an optional extra")
    path = tmp_path / "file.pth"
    itself = {}
    itself["model"] = itself
    for content, message in (
        ({"x": torch.eye(3).to_sparse()}, "'x' is a torch.sparse_coo tensor: save plain, dense"),
        ({"x": torch.empty(3, device="meta")}, "'x' is a meta tensor: save plain, dense ones"),
        ({"x": torch.ones(3).to(torch.float8_e4m3fn)}, "'x' is torch.float8_e4m3fn: save it as"),
        ({"x": torch.ones(3, dtype=torch.complex64).conj()}, "'x' is torch.complex64: save it as"),
        ({"x": torch.zeros(1).expand(10**6, 10**6)}, r"\(1000000, 1000000\) repeats fewer values"),
        (itself, "hold no state dict"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=rf"file\.pth.*{message}") as error:
            weight_files.read(path)
        assert "\n" not in str(error.value)


def test_convert_and_load_again(tmp_path):
    """torchvision's names in, ours out, the same network from either."""
    source, target = tmp_path / "theirs.safetensors", tmp_path / "ours.npz"
    theirs = reference.weights(reference.load("deeplabv3_mobilenet_v3_large_aux_eval"))
    weight_files.write(source, theirs)
    done = subprocess.run(
        [sys.executable, "-m", "dropclass_jax.convert", source, target,
         "--model=mobilenet_v3_large"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{source} -> {target}: {len(theirs)} tensors from torchvision's names\n"

    model = models.create("mobilenet_v3_large", 21, auxiliary=True, dropclass=None)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    expected, _ = pretrained.load_state_dict(shapes, theirs)
    loaded, report = pretrained.load_state_dict(shapes, weight_files.read(target))
    assert not report.missing
    assert not report.unused
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_convert_says_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "dropclass_jax.convert"]
    done = subprocess.run(
        [*command, "a.pth", "--model=resnet50"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "give two files" in done.stderr
    with pytest.raises(UserError, match="written as"):
        convert.convert(tmp_path / "a.npz", tmp_path / "b.pth", "resnet50")
    with pytest.raises(UserError, match=r"folder of .*gone/b\.npz does not exist"):
        convert.convert(tmp_path / "a.npz", tmp_path / "gone" / "b.npz", "resnet50")


@pytest.fixture
def config(tmp_path_factory, named_tiny, no_page):
    config = load_config("configs/streets.py:tiny")
    config.data.prepared_dir = str(tmp_path_factory.mktemp("prepared"))
    config.data.options.update(train=8, val=2, val_out=2)
    config.augment.crop = (32, 48)
    config.total_steps = config.log_every = config.eval.every_steps = 2
    return config


def test_training_starts_from_a_run_s_weights(config, tmp_path, capsys):
    """A plain run, then DropClass from where it ended, which may then be moved away."""
    config.dropclass.enabled = False
    first, second = tmp_path / "first", tmp_path / "second"
    train.train(config, first)
    start = checkpoint.read_weights(first)

    config.dropclass.enabled = True
    config.init.path = str(first)
    config.optim.lr = 1e-12  # the first and only steps stay where they start
    config.optim.weight_decay = 0.0
    capsys.readouterr()
    train.train(config, second)
    shown = capsys.readouterr().out
    assert f"{first}: 12 tensors loaded, in our own names; start afresh: refine (6)" in shown
    after = checkpoint.read_weights(second)
    for name, leaf in traverse_util.flatten_dict(start, sep="/").items():
        if name.startswith("params"):
            np.testing.assert_allclose(after[name], leaf, atol=1e-8, err_msg=name)
    assert checkpoint.exists(second)
    first.rename(tmp_path / "elsewhere")
    assert train.train(config, second) == 0
    assert json.loads((second / "config.json").read_text())["init"]["path"] == str(first)


def test_wrong_weights_leave_no_run_behind(config, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "BACKBONES", tiny.BACKBONES)  # it looks for one that would fit
    weight_files.write(tmp_path / "other.npz", {"encoder.weight": np.ones((3, 2), np.float32)})
    config.init.path = str(tmp_path / "other.npz")
    with pytest.raises(UserError, match="nothing of the model's backbone"):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
