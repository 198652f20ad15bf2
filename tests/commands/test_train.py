"""The commands as their user runs them, on a network of two convolutions."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pages
import pytest
import soak
from board_events import events
from lock_holder import another_process

from dropclass_jax import evaluate, train
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import from_values, load_config
from dropclass_jax.files import write_json
from dropclass_jax.runs import checkpoint, results, rundir, trained_network


@pytest.fixture(scope="session")
def prepared(tiny_run):
    """Where the data of ``tiny_run`` is, of which ``config`` is, too."""
    return str(tiny_run.parent / "prepared")


@pytest.fixture
def config(prepared, named_tiny):
    """Twelve steps on a few small scenes: the config of ``tiny_run``."""
    config = load_config("configs/streets.py:tiny")
    config.data.prepared_dir = prepared
    config.data.options.update(train=12, val=5, val_out=5)
    config.augment.crop = (32, 48)
    config.total_steps = 12
    config.log_every = 2
    config.eval.every_steps = 6
    config.checkpoint.every_steps = 4
    return config


def records(workdir, kind):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in lines
            if r["kind"] == kind]  # fmt: skip


def test_a_run_from_config_to_report(config, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train.train(config, workdir) == 0
    shown = capsys.readouterr().out
    assert shown.index("compiling the training step ...") < shown.index("step 12/12")
    assert "step 12/12  100%" in shown
    for expected in ("traffic light", "mean IoU", "eta", "img/s", "λ"):
        assert expected in shown

    steps = records(workdir, "train")
    assert [r["step"] for r in steps] == [2, 4, 6, 8, 10, 12]
    assert {"loss", "loss_plain", "loss_drop", "suppression", "lr", "lambda", "p"} <= steps[
        0
    ].keys()
    assert [(r["step"], r["split"], r["head"]) for r in records(workdir, "eval")] == [
        *((step, split, head) for step, split in ((6, "val"), (12, "val"), (12, "val_out"))
          for head in ("drop", "plain")),
    ]  # fmt: skip

    metrics = json.loads((workdir / "metrics.json").read_text())
    assert [(r["split"], r["head"]) for r in metrics["results"]] == [
        ("val", "drop"), ("val", "plain"), ("val_out", "drop"), ("val_out", "plain"),
    ]  # fmt: skip
    for result in metrics["results"]:
        assert result["images"] == 5  # none dropped: 5 is not a multiple of the batch
        assert np.sum(result["confusion"]) == sum(result["pixels"])
        present = [x for x in result["iou"] if x is not None]
        np.testing.assert_allclose(result["mean_iou"], np.mean(present))
    assert len((workdir / "metrics.csv").read_text().splitlines()) == 1 + 4 * 19
    assert "<html" in (workdir / "report.html").read_text()
    tags = {
        (event.step, value.tag)
        for event in events(workdir / "tensorboard")
        for value in event.summary.value
    }
    for result in metrics["results"]:
        split, head = result["split"], result["head"]
        assert (12, f"{split}/{head}/mean_iou of tail classes") in tags
        for about, iou in zip(metrics["classes"], result["iou"], strict=True):
            tag = f"{split} class IoU/{head}/{about['name']}"
            assert ((12, tag) in tags) == (iou is not None)
    pictures = results.read_samples(workdir)
    assert [len(of_split) for of_split in pictures.values()] == [4, 4]
    for split, of_split in pictures.items():
        for n, sample in enumerate(of_split, start=1):
            assert (12, f"{split}/{n} {sample['id']}") in tags

    network = trained_network.load(workdir)  # without its data
    pixels = [about["train_pixels"] for about in metrics["classes"]]
    assert (network.step, network.info.train_pixels) == (12, tuple(pixels))
    outputs = network.model.apply(network.variables, np.zeros((1, 32, 48, 3), np.float32))
    assert outputs["logits_drop"].shape == (1, 8, 12, 19)


@pytest.mark.usefixtures("no_page")
def test_a_finished_run_is_not_trained_again(config, tiny_run, tmp_path, capsys):
    """The same command evaluates and reports once more, and its history stays as it was."""
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    # Without an average of the weights nothing takes its place, and the checkpoint is restored.
    assert not jax.tree.leaves(final_state(workdir)[1].get("ema_params"))
    history = records(workdir, "train"), records(workdir, "eval")
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write('{"kind": "tr')  # as a kill leaves it
    capsys.readouterr()
    assert train.train(config, workdir) == 0
    assert (records(workdir, "train"), records(workdir, "eval")) == history
    shown = capsys.readouterr().out
    assert "step 12/12" not in shown
    assert "compiling" not in shown


@pytest.mark.usefixtures("no_page")
def test_all_that_saves_memory_at_once(config, tmp_path):
    """And an average, which is what a run and a checkpoint of it are evaluated by."""
    workdir = tmp_path / "run"
    config.update_from_flattened_dict(
        {
            "batch_size": 16,
            "accumulate_steps": 2,
            "model.remat": "blocks",
            "model.freeze_bn": ("backbone",),
            "optim.freeze": ("backbone/conv1",),
            "optim.ema": 0.8,
        }
    )
    train.train(config, workdir)
    saved = final_state(workdir)[1]
    variables, _ = checkpoint.restore_variables(workdir, checkpoint.variable_shapes(workdir))
    assert variables.keys() == {"params", "batch_stats"}
    for path, value in jax.tree.leaves_with_path(variables["params"]):
        averaged, current = (
            dict(jax.tree.leaves_with_path(saved[name]))[path] for name in ("ema_params", "params")
        )
        np.testing.assert_array_equal(value, averaged)
        held = path[0].key == "backbone" and path[1].key == "conv1"
        assert np.allclose(current, averaged, rtol=1e-5) == held, path
    assert (saved["batch_stats"]["backbone"]["conv1"]["norm"]["mean"] == 0).all()

    before = json.loads((workdir / "metrics.json").read_text())["results"]
    (workdir / "metrics.json").unlink()
    after = evaluate.evaluate_run(workdir)["results"]
    assert [r["confusion"] for r in after] == [r["confusion"] for r in before]


@pytest.mark.usefixtures("no_page")
def test_plain_training_has_one_head(config, tmp_path):
    config.dropclass.enabled = False
    train.train(config, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {r["head"] for r in metrics["results"]} == {"plain"}
    with pytest.raises(UserError, match="plain run and has no drop head"):
        evaluate.evaluate_run(tmp_path / "run", heads=["drop"])


def final_state(workdir):
    """Every array of the last checkpoint, as saved."""
    with checkpoint.manager(workdir) as checkpoints:
        step = checkpoints.latest_step()
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        tree = checkpoints.restore(step, args=args)["state"]
    return step, tree


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("moment", ["a step", "an evaluation", "the last evaluation"])
def test_a_stopped_run_continues_exactly(config, tiny_run, tmp_path, monkeypatch, moment):
    """Stopped by signals between checkpoints, the run ends as one that was never stopped."""
    whole, stopped = tiny_run, tmp_path / "stopped"

    line, score = train.Progress.train, train.loop.evaluate_split
    scored = []

    def interrupt_step(self, step, scalars):
        line(self, step, scalars)
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    def interrupt_evaluation(*args, **kwargs):
        scored.append(args[3])
        if len(scored) == (1 if moment == "an evaluation" else 3):
            os.kill(os.getpid(), signal.SIGINT)
        return score(*args, **kwargs)

    with monkeypatch.context() as patch:
        if moment == "a step":
            patch.setattr(train.Progress, "train", interrupt_step)
        else:
            patch.setattr(train.loop, "evaluate_split", interrupt_evaluation)
        number = signal.SIGTERM if moment == "a step" else signal.SIGINT
        assert train.train(config, stopped) == 128 + number
    at = {"a step": 10, "an evaluation": 6, "the last evaluation": 12}[moment]
    assert final_state(stopped)[0] == at
    assert not (stopped / "metrics.json").exists()
    assert train.train(config, stopped) == 0

    (step, expected), (_, got) = final_state(whole), final_state(stopped)
    assert step == 12
    for path, value in jax.tree.leaves_with_path(expected):
        other = dict(jax.tree.leaves_with_path(got))[path]
        np.testing.assert_array_equal(other, value, err_msg=jax.tree_util.keystr(path))
    assert records(stopped, "train") == records(whole, "train")
    assert records(stopped, "eval") == records(whole, "eval")


COMMAND = [sys.executable, "-m", "dropclass_jax.train", "--config=configs/streets.py"]


def start(workdir, prepared, *options):
    """The real command, with the real network on tiny crops, in a process of its own."""
    settings = {
        "data.prepared_dir": prepared,
        "data.options.train": 12, "data.options.val": 5, "data.options.val_out": 5,
        "augment.crop": "(32,32)", "eval.splits": "('val',)",
        "batch_size": 2, "total_steps": 12, "log_every": 1, "checkpoint.every_steps": 3,
    }  # fmt: skip
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}", *flags, *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip


def test_a_run_killed_again_and_again_ends_as_one_left_alone(tmp_path):
    """SIGKILL while it starts, trains, saves and evaluates."""
    assert set(soak.soak(tmp_path, kills=4, seed=0)) == set(soak.MOMENTS)


@pytest.mark.slow
def test_a_killed_run_of_the_real_network_continues_exactly(prepared, tmp_path):
    """At most the steps since the last checkpoint are lost."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole, prepared)
    output = process.communicate()[0]
    assert process.returncode == 0, output

    process = start(killed, prepared)
    for line in process.stdout:
        if line.startswith("step 8/12"):
            break
    process.kill()
    process.communicate()
    assert not (killed / "metrics.json").exists()
    process = start(killed, prepared)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "continuing" in output
    ours, theirs = (
        json.loads((d / "metrics.json").read_text())["results"] for d in (killed, whole)
    )
    assert ours == theirs
    assert records(killed, "train") == records(whole, "train")


@pytest.mark.usefixtures("no_page")
def test_one_process_at_a_time_trains_in_a_workdir(config, tmp_path):
    """The second is refused before it writes anything."""
    with (
        another_process(tmp_path) as process,
        pytest.raises(UserError, match=f"is being trained by process {process.pid} on "),
    ):
        train.train(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    config.total_steps = 2
    assert train.train(config, tmp_path) == 0


def test_another_config_s_workdir_is_refused(config, tmp_path):
    rundir.claim(tmp_path, config.to_dict(), "data")
    config.data.num_threads = 7  # changes nothing that is learned
    rundir.claim(tmp_path, config.to_dict(), "data")
    with pytest.raises(UserError, match="other data"):
        rundir.claim(tmp_path, config.to_dict(), "other")
    config.optim.lr = 0.5
    config.total_steps = 13
    changes = r"optim\.lr was 0\.003, is 0\.5; total_steps was 12, is 13"
    with pytest.raises(UserError, match=changes):
        rundir.claim(tmp_path, config.to_dict(), "data")


def test_keys_that_came_later_have_their_defaults(config, tmp_path):
    """A run that was made before there was such a key is read, and continued."""
    old = config.copy_and_resolve_references()
    del old.optim["ema"], old["accumulate_steps"]
    rundir.claim(tmp_path, old.to_dict(), "data")
    assert from_values(rundir.read_config(tmp_path)).to_dict() == config.to_dict()
    rundir.claim(tmp_path, config.to_dict(), "data")
    config.optim.ema = 0.9
    write_json(tmp_path / "config.json", old.to_dict())
    with pytest.raises(UserError, match=r"optim\.ema was 0\.0, is 0\.9"):
        rundir.claim(tmp_path, config.to_dict(), "data")


def test_a_folder_of_something_else_is_refused(config, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds no run"):
        rundir.claim(tmp_path, config.to_dict(), "data")
    with pytest.raises(UserError, match="cannot be written"):
        rundir.claim(tmp_path / "thesis.tex" / "run", config.to_dict(), "data")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 12, r"batch_size is a multiple of the 8 devices, not 12"),
        ("accumulate_steps", 3, r"batch_size is a multiple of .* 8 devices x 3 acc.*, not 8"),
        ("accumulate_steps", 0, r"accumulate_steps is 1 or more, not 0"),
        ("model.remat", "all", r"model\.remat is one of 'none', 'blocks', not 'all'"),
        ("model.freeze_bn", ("bakbone",), r"freeze_bn .* no 'bakbone'; did you mean backbone\?"),
        ("model.freeze_bn", (1,), r"model\.freeze_bn is names or patterns, not \(1,\)"),
        ("optim.freeze", ("*/conv1/bias",), r"optim\.freeze .* no '\*/conv1/bias'"),
        ("optim.freeze", ("*",), r"optim\.freeze \('\*',\) holds every parameter"),
        ("eval.splits", (), r"eval\.splits is the names of one split or more, not \(\)"),
        ("optim.ema", 1.0, r"optim\.ema is 0 to below 1, not 1\.0"),
        ("total_steps", 0, r"total_steps is 1 or more, not 0"),
        ("seed", -1, r"seed is 0 to 4294967295, not -1"),
        ("augment.crop", (64,), r"crop is \(height, width\) in pixels, as .*, not \(64,\)"),
        ("augment.crop", (64, 0), r"augment\.crop is .*, not \(64, 0\)"),
        ("augment.scale", (2.0, 0.5), r"augment\.scale is \(smallest, largest\).*\(2\.0, 0\.5\)"),
        ("augment.scale_step", 0.0, r"augment\.scale_step is above 0, not 0\.0"),
        ("data.num_threads", -3, r"num_threads is 0 \(in the main thread\) or more, not -3"),
        ("data.cache_gib", -1.0, r"data\.cache_gib is 0 or more, not -1\.0"),
        ("optim.lr", -0.1, r"optim\.lr is 0 or more, not -0\.1"),
        ("optim.lr", float("nan"), r"optim\.lr is 0 or more, not nan"),
        ("optim.momentum", 1.0, r"optim\.momentum is 0 to below 1, not 1\.0"),
        ("optim.warmup_steps", -1, r"optim\.warmup_steps is 0 or more, not -1"),
        ("optim.warmup_steps", 13, r"warmup_steps is up to config\.total_steps, 12, not 13"),
        ("eval.batch_size", 9, r"eval\.batch_size is a multiple of the 8 devices, not 9"),
        ("dropclass.p.end", 1.5, r"dropclass\.p\.end is 0 to 1, not 1\.5"),
        ("dropclass.lambda_.shape", "square", r"lambda_\.shape is one of 'linear', .*not 'square'"),
        ("dropclass.draw", "often", r"dropclass\.draw is one of 'uniform', .*not 'often'"),
        ("dropclass.importance", "no", r"'position' or 'uniform', not 'no'"),
        ("model.name", "hrnet_w18_small_v3", r"did you mean hrnet_w18_small_v"),
        ("model.init", "xavier", r"model\.init is one of he, reference, not 'xavier'"),
        ("model.dtype", "float8", r"model\.dtype is one of 'float32', 'bfloat16', not 'float8'"),
        ("optim.name", "lion", r"'sgd' or 'adamw', not 'lion'"),
        ("loss.class_weights", "dataset", r"no customary class weights"),
        ("eval.splits", ("dev",), r"no split 'dev'"),
        ("data.name", "street", r"streets"),
    ],
)
def test_bad_values_are_named_before_any_work(config, tmp_path, key, value, message):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_that_cannot_fit_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr(train.pmap, "device_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"a step of 8 crops of 32x48 needs .* GiB .* lower"):
        train.train(config, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    config.optim.lr = 1e30
    with pytest.raises(UserError, match=r"not finite at step .*loss_plain.*config.optim.lr"):
        train.train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/nowhere.py"], "configs/nowhere.py does not exist"),
        (["--config=configs/streets.py", "--config.dropclass.alhpa=1"],
         "unknown config key 'dropclass.alhpa'; did you mean dropclass.alpha?"),
        (["--config=configs/streets.py", "--config.dropclass=1"], "'dropclass' is a section"),
        (["--config=configs/camvid.py:hrnet_w18_small_v1,ful"], "unknown option 'ful'"),
        (["--config=configs/streets.py", "--config.seed=one"], "could not convert|invalid literal"),
    ],
)  # fmt: skip
def test_a_flag_s_mistake_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        pages.parse("train", arguments)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert re.fullmatch(f"error: .*({message}).*\n", said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/streets.py", "--config.dropclass.alhpa=1"], "alhpa"),
        (["--config=configs/camvid.py", "--config.data.dir=/no/such/folder"], "/no/such/folder"),
        (["--config=configs/streets.py", "again"], "unexpected argument 'again'"),
    ],
)
def test_a_user_s_mistake_is_one_line(arguments, message, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "dropclass_jax.train", *arguments, f"--workdir={tmp_path}/run"],
        capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert "Traceback" not in result.stderr


def test_data_of_other_classes_is_not_scored(config, tmp_path):
    info = DatasetInfo("two", ("road", "car"), ((0, 0, 0), (9, 9, 9)), train_pixels=(7, 3))
    info = dataclasses.replace(info, window=(90, 4000))
    rundir.claim(tmp_path, config.to_dict(), "data", info)
    assert rundir.read_info(tmp_path) == info
    kept = json.loads((tmp_path / "data.json").read_text())
    del kept["window"]  # as an earlier version wrote it
    (tmp_path / "data.json").write_text(json.dumps(kept))
    assert rundir.read_info(tmp_path) == dataclasses.replace(info, window=None)
    rundir.check_classes(tmp_path, ("road", "car"))
    with pytest.raises(
        UserError, match=r"trained on 2 classes \(road, car\), the data has 1 \(road\)"
    ):
        rundir.check_classes(tmp_path, ("road",))
    rundir.check_classes(tmp_path, ("street", "car"))  # renamed
    for other in (("car", "road"), ("car", "street"), ("street", "road")):
        with pytest.raises(
            UserError, match=r"trained with '(car|road)' as class \d, in the data it is"
        ):
            rundir.check_classes(tmp_path, other)
    with pytest.raises(UserError, match=r"give the classes in the run's order \(road, car\)"):
        rundir.claim(tmp_path, config, "data", dataclasses.replace(info, classes=("car", "road")))
    assert rundir.read_info(tmp_path).classes == ("road", "car")


def test_a_run_s_folder_has_a_default():
    assert train.default_workdir("configs/camvid.py:hrnet_w48,full") == "runs/camvid-hrnet_w48,full"
    assert train.default_workdir("configs/folder.py") == "runs/folder"


def test_one_example_is_too_few_for_pooled_features(config, tmp_path, monkeypatch):
    """With one device: batch norm over one pooled value an image would make it zero."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    config.model.name = "deeplab_v3_mobilenet_v3_small"
    config.update(batch_size=4, accumulate_steps=4)
    with pytest.raises(UserError, match=r"batch_size of 1 .* too few for DeepLabV3"):
        train.train(config, tmp_path / "run")
