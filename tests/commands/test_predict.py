"""Predictions: of every kind of input, as pictures, and as the servers take them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import fabricate
import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from dropclass_jax import predict
from dropclass_jax.data import codec, windows
from dropclass_jax.data.info import CITYSCAPES, VOC, DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference
from dropclass_jax.evaluation.inference import Views
from dropclass_jax.ops.images import normalize
from dropclass_jax.ops.resize import resize_bilinear
from dropclass_jax.prediction import frames, predictor, submission, video
from dropclass_jax.runs import trained_network

INFO = tiny.INFO
COLORS = INFO.colors

pytestmark = pytest.mark.usefixtures("named_tiny")


@pytest.fixture
def network(untrained):
    return untrained


@pytest.fixture
def run(untrained):
    return untrained.workdir


@pytest.fixture
def pictures(tmp_path):
    """A folder of two images of one name, grey and colour, one damaged, and a text."""
    folder = tmp_path / "pictures"
    fabricate.write(folder / "a.png", fabricate.encode(fabricate.image(0)))
    fabricate.write(folder / "sub" / "a.jpg", fabricate.encode(fabricate.image(1)[..., 0], ".jpg"))
    fabricate.write(folder / "broken.png", fabricate.encode(fabricate.image(2))[:60])
    fabricate.write(folder / "notes.txt", b"taken in May")
    return folder


@functools.partial(jax.jit, static_argnums=0)
def scores_of(model, variables, image):
    normal = normalize(image[None], INFO.mean, INFO.std)
    return inference.scores(inference.forward(model, variables), normal)


def classes_of(network, image: np.ndarray, head: str = "drop") -> np.ndarray:
    """What the network says, without anything of ``predict``."""
    scores = scores_of(network.model, network.variables, image)
    return np.asarray(inference.predictions(scores)[head][0])


def read(path: Path) -> np.ndarray:
    """A PNG as its values or RGB."""
    return codec.decode_unchanged(path.read_bytes())


def films(folder: Path, name: str = "film.mp4", number: int = 3) -> list[np.ndarray]:
    """Write a video; what its frames are when they are read."""
    with video.writer(folder / name, 10.0) as append:
        for seed in range(number):
            append(np.kron(fabricate.image(seed, (4, 6)), np.ones((8, 8, 1), np.uint8)))
    return list(video.read(folder / name))


def test_a_folder_becomes_classes_colours_and_overlays(run, network, pictures, tmp_path, capsys):
    out = pictures / "results"  # in the folder itself: not looked into when it is there
    bad = predict.predict_run(run, [pictures], out)
    assert [str(error) for error in bad] == [
        f"{pictures}/broken.png is not a readable image: replace it or remove it"
    ]
    said = capsys.readouterr()
    assert f"{pictures}: left out, as no images or videos: notes.txt" in said.out
    assert f"written: 2 to {out}, as index, color, overlay" in said.out
    assert f"bad input: {bad[0]}" in said.err
    assert "bad inputs: 1" in said.err

    shown = {
        "a": fabricate.image(0),
        "sub/a": codec.decode_image((pictures / "sub" / "a.jpg").read_bytes()),
    }
    for name, image in shown.items():
        expected = classes_of(network, image)
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(read(out / "index" / f"{name}.png"), expected)
        painted = np.array(COLORS, np.uint8)[expected]
        np.testing.assert_array_equal(read(out / "color" / f"{name}.png"), painted)
        assert (out / "overlay" / f"{name}.png").is_file()
    known = json.loads((out / "classes.json").read_text())
    assert known["head"] == "drop"
    assert known["classes"][1] == {"value": 1, "name": "road", "color": [255, 0, 0]}

    (pictures / "broken.png").unlink()
    assert not predict.predict_run(run, [pictures], out, kinds=["index"], head="plain")
    assert len(list((out / "index").rglob("*.png"))) == 2  # no results of results
    expected = classes_of(network, shown["a"], "plain")
    np.testing.assert_array_equal(read(out / "index" / "a.png"), expected)


def test_a_video_becomes_videos_and_exact_classes(run, network, tmp_path):
    seen = films(tmp_path)
    assert len(seen) == 3
    predict.predict_run(run, [tmp_path / "film.mp4"], tmp_path / "out")
    for number, frame in enumerate(seen):
        path = tmp_path / "out" / "index" / "film" / f"{number:06}.png"
        np.testing.assert_array_equal(read(path), classes_of(network, frame))
    (first, *_), rate = video.read(tmp_path / "out" / "color" / "film.mp4"), 10.0
    painted = np.array(COLORS)[classes_of(network, seen[0])]
    assert np.abs(first - painted).mean() < 40  # a lossy codec, but not other colours
    assert video.frame_rate(tmp_path / "out" / "overlay" / "film.mp4") == rate

    predict.predict_run(
        run, [tmp_path / "film.mp4"], tmp_path / "pngs", kinds=["color"], as_frames=True
    )
    path = tmp_path / "pngs" / "color" / "film" / "000000.png"
    np.testing.assert_array_equal(read(path), painted)


def test_a_damaged_video_is_told_and_the_rest_goes_on(pictures, tmp_path):
    (tmp_path / "cut.avi").write_bytes(b"RIFF" + bytes(100))
    inputs, _ = frames.find([tmp_path / "cut.avi", pictures / "a.png"])
    first, second = frames.read(inputs, None)
    assert str(first) == f"{tmp_path}/cut.avi is not a readable video: replace it or remove it"
    np.testing.assert_array_equal(second.image, fabricate.image(0))


def test_a_video_that_ends_too_early_is_told(tmp_path, monkeypatch):
    films(tmp_path)
    monkeypatch.setattr(video, "length", lambda path: 9)
    seen = []
    with pytest.raises(UserError, match="is damaged: it ends after 3 of about 9 frames"):
        seen.extend(video.read(tmp_path / "film.mp4"))


def test_odd_sizes_of_a_video_lose_nothing(tmp_path):
    picture = np.full((31, 45, 3), (200, 40, 90), np.uint8)
    with video.writer(tmp_path / "odd.mp4", 25.0) as append:
        append(picture)
    (frame,) = video.read(tmp_path / "odd.mp4")
    assert frame.shape == (32, 46, 3)
    assert np.abs(frame.astype(int) - picture[0, 0]).max() < 12


def names(paths: list[Path]) -> list[str]:
    return [source.name for source in frames.find(paths)[0]]


def test_what_results_are_called(pictures, tmp_path):
    assert names([pictures]) == ["a", "broken", "sub/a"]
    assert names([pictures / "a.png", pictures / "broken.png"]) == ["a", "broken"]
    other = tmp_path / "other"
    fabricate.write(other / "a.png", b"")
    fabricate.write(other / "a.b.jpg", b"")
    assert names([other]) == ["a.b", "a"]
    assert names([other, pictures])[:3] == ["other/a.b", "other/a", "pictures/a"]
    fabricate.write(other / "a.jpg", b"")
    assert names([other]) == ["a.b", "a.jpg", "a.png"]
    with pytest.raises(UserError, match=r"a\.png and .*a\.png would both be called a\.png: give"):
        names([other / "a.png", pictures / "a.png"])
    with pytest.raises(UserError, match="nowhere does not exist"):
        names([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no image and no video"):
        names([tmp_path / "empty"])


def test_frames_beside_their_video_are_not_written_over(tmp_path):
    fabricate.write(tmp_path / "clip" / "000000.png", b"")
    fabricate.write(tmp_path / "clip.mp4", b"")
    fabricate.write(tmp_path / "still.png", b"")
    assert sorted(names([tmp_path])) == ["clip.mp4", "clip/000000", "still"]


def test_a_list_names_inputs_a_line_each(pictures, tmp_path):
    other = tmp_path / "other folder"
    fabricate.write(other / "b.png", b"")
    listed = tmp_path / "lists" / "some.TXT"
    content = f"\ufeff../pictures/sub/a.jpg\r\n\n {other}/b.png \n../pictures/sub/../sub/a.jpg"
    fabricate.write(listed, content.encode())
    inputs, notes = frames.find([listed])
    assert [source.name for source in inputs] == ["pictures/sub/a", "other folder/b"]
    assert [source.path.name for source in inputs] == ["a.jpg", "b.png"]
    assert notes == []
    assert names([listed, other]) == [
        f"{tmp_path.name}/pictures/sub/a", f"{tmp_path.name}/other folder/b", "other folder/b",
    ]  # fmt: skip
    listed.write_text("../pictures\n../pictures/a.png")  # a folder, and one of its files again
    inputs, notes = frames.find([listed])
    assert [source.name for source in inputs] == ["a", "broken", "sub/a"]
    assert "left out, as no images or videos: notes.txt" in notes[0]
    listed.write_bytes(b"../pictures/caf\xe9.png")
    fabricate.write(pictures / os.fsdecode(b"caf\xe9.png"), b"")
    assert names([listed]) == [os.fsdecode(b"caf\xe9")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n", "some.txt is empty: want a list of images, a path a line"),
        (b"pictures/a.png\nb.png", "some.txt, line 2: .*b.png does not exist; relative paths"),
        (b"pictures/notes.txt", "line 1: .*notes.txt is itself a list: give it directly"),
        (b"\x89PNG\0\0", "some.txt is no text: want a list of images"),
    ],
)
def test_a_bad_list_is_one_line(pictures, tmp_path, content, message):
    (tmp_path / "some.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        frames.find([tmp_path / "some.txt"])


def test_sixteen_bits_become_eight_as_in_training(tmp_path):
    deep = fabricate.image(0).astype(np.uint16) * 16 + 100
    fabricate.write(tmp_path / "deep.png", fabricate.encode(deep))
    fabricate.write(tmp_path / "flat.png", fabricate.encode(fabricate.image(0)))
    inputs, _ = frames.find([tmp_path])

    flat, image = [], windows.to_8bit(deep, (100, 4180))
    read = list(frames.read(inputs, (100, 4180)))
    np.testing.assert_array_equal(read[0].image, image)
    assert np.abs(image.astype(int) - fabricate.image(0)).max() <= 1
    assert "flat.png has 8 bits a channel, but the training images have 16" in str(read[1])
    low, high = np.quantile(deep, [0.001, 0.999], method="inverted_cdf").astype(int)
    alone, flat = frames.read(inputs, "image")
    np.testing.assert_array_equal(alone.image, windows.to_8bit(deep, (low, high)))
    deep, flat = frames.read(inputs, None)
    assert "deep.png has 16 bits a channel, and the run knows no map" in str(deep)
    np.testing.assert_array_equal(flat.image, fabricate.image(0))


def test_padding_gives_what_a_padded_image_gives(network):
    padded = predictor.predictor(network, pad_to=8)
    for height, width in ((17, 25), (20, 30), (24, 32)):
        image = fabricate.image(0)[:height, :width]
        full = np.zeros((24, 32, 3), np.uint8)
        full[:height, :width] = image
        expected = classes_of(network, full)[:height, :width]
        np.testing.assert_array_equal(padded(image), expected)
    with pytest.raises(UserError, match="--pad_to=0: give 1 pixel or more"):
        predictor.predictor(network, pad_to=0)


@pytest.mark.parametrize("pad_to", [1, 8])
def test_the_network_sees_an_image_at_the_resolution_that_it_was_trained_at(network, pad_to):
    halved = network._replace(facts=network.facts._replace(resolution=0.5))
    image = fabricate.image(0, (34, 50))
    seen = np.zeros((24, 32, 3) if pad_to == 8 else (17, 25, 3), np.uint8)
    seen[:17, :25] = cv2.resize(image, (25, 17), interpolation=cv2.INTER_AREA)
    scores = scores_of(network.model, network.variables, seen)["drop"][:, :17, :25]
    expected = np.argmax(resize_bilinear(scores, (34, 50))[0], axis=-1)
    found = np.asarray(predictor.predictor(halved, pad_to=pad_to)(image))
    np.testing.assert_array_equal(found, expected)
    assert (found != predictor.predictor(network)(image)).any()


def test_an_image_too_large_for_the_device_is_told_and_the_rest_goes_on():
    source = frames.Input("big", Path("big.png"))
    frame = frames.Frame(source, 0, np.zeros((4, 6, 3), np.uint8))

    def never_fits(image):
        if image.any():
            return image[..., 0]
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nallocating 9 GiB")

    fits = frame._replace(image=np.ones((4, 6, 3), np.uint8))
    outcomes = list(predictor.predicted(never_fits, [fits, frame, fits, UserError("bad")]))
    errors = [str(outcome) for outcome in outcomes if isinstance(outcome, UserError)]
    assert sorted(errors) == [
        "bad",
        "big.png of 4x6 does not fit the device's memory: predict it in parts, with --window=H,W",
    ]
    assert sum(isinstance(outcome, predictor.Prediction) for outcome in outcomes) == 2

    def has_a_bug(image):
        raise jax.errors.JaxRuntimeError("INTERNAL: oops")

    with pytest.raises(jax.errors.JaxRuntimeError, match="oops"):
        list(predictor.predicted(has_a_bug, [frame]))


def test_cityscapes_gets_label_ids(run, tmp_path, capsys):
    """Of the classes by their names, in whatever order the run has them."""
    official = {"road": 7, "sky": 23, "car": 26, "bicycle": 33}
    workdir = tiny.save_run(tmp_path / "streets", DatasetInfo("mine", tuple(official), COLORS))
    name = "berlin_000000_000019"
    fabricate.write(
        tmp_path / "test" / "berlin" / f"{name}_leftImg8bit.png",
        fabricate.encode(fabricate.image(0)),
    )
    out = tmp_path / "out"
    assert not predict.predict_run(workdir, [tmp_path / "test"], out, server="cityscapes")
    assert [path.name for path in out.rglob("*")] == [f"{name}_pred.png"]
    classes = classes_of(trained_network.load(workdir), fabricate.image(0))
    expected = np.array(list(official.values()))[classes]
    np.testing.assert_array_equal(read(out / f"{name}_pred.png"), expected)
    assert f"to submit it: cd {out} && zip" in capsys.readouterr().out

    with pytest.raises(UserError, match="class 'grass' is none of cityscapes's"):
        predict.predict_run(run, [tmp_path / "test"], out, server="cityscapes")
    fabricate.write(tmp_path / "test" / "a.png", fabricate.encode(fabricate.image(0)))
    with pytest.raises(UserError, match=r"a\.png is not called as an image of cityscapes, like"):
        predict.predict_run(workdir, [tmp_path / "test"], out, server="cityscapes")


def test_voc_gets_palette_indices_in_its_folders(tmp_path):
    classes = np.arange(21, dtype=np.uint8).reshape(3, 7)
    server = submission.SERVERS["voc"]
    inputs, _ = frames.find([write_empty(tmp_path / "JPEGImages" / "2008_000006.jpg")])
    (path,) = submission.paths(server, inputs).values()
    assert path == Path("results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png")
    table = submission.class_table(server, VOC.classes[::-1])
    fabricate.write(tmp_path / path, server.encode(table[classes]))
    picture = Image.open(tmp_path / path)
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), 20 - classes)
    colors = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colors, np.array(VOC.colors)[20 - classes])
    twice = [*inputs, frames.Input("x", tmp_path / "2008_000006.png")]
    with pytest.raises(UserError, match="are the same image of voc: give one of them"):
        submission.paths(server, twice)


def write_empty(path: Path) -> Path:
    fabricate.write(path, b"")
    return path


def test_a_server_knows_the_classes_of_its_set():
    for name, info in (("cityscapes", CITYSCAPES), ("voc", VOC)):
        server = submission.SERVERS[name]
        table = submission.class_table(server, info.classes)
        np.testing.assert_array_equal(table, np.arange(info.num_classes))
        assert server.image.fullmatch(Path(server.example).stem)


def test_a_run_of_another_model_is_refused_in_one_line(run, tmp_path):
    plain = tiny.save_run(tmp_path / "plain", INFO, **{"dropclass.enabled": False})
    with pytest.raises(UserError, match="plain run and has no drop head; use --head=plain"):
        trained_network.scorer(trained_network.load(plain), "drop")
    shutil.copy(run / "config.json", plain)
    with pytest.raises(UserError, match=r"does not fit this config's model: .*refine.* is missing"):
        trained_network.load(plain)


def test_the_command(run, network, pictures, tmp_path):
    arguments = [f"--workdir={run}", f"--out={tmp_path}/out", "--save=index", "--window=16,16"]
    result = subprocess.run(
        [sys.executable, tiny.__file__, "dropclass_jax.predict", *arguments, str(pictures)],
        capture_output=True, text=True, env=tiny.environment(),
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "broken.png is not a readable image" in result.stderr
    assert "Traceback" not in result.stderr
    in_windows = predictor.predictor(network, views=Views(window=(16, 16)))
    expected = np.asarray(in_windows(fabricate.image(0)))
    assert (expected != classes_of(network, fabricate.image(0))).any()
    np.testing.assert_array_equal(read(tmp_path / "out" / "index" / "a.png"), expected)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classes.json", "index"]
