"""Every sweep that is shipped is a set of configs that work; what a sweep file may get wrong."""

import shutil
from pathlib import Path

import pytest
from absl import flags
from facts import facts_only
from ml_collections import config_flags

from dropclass_jax.errors import UserError
from dropclass_jax.experiment import build
from dropclass_jax.experiment.batches import load_data
from dropclass_jax.experiment.config import load_config
from dropclass_jax.runs import rundir
from dropclass_jax.sweeps import plan

# ml_collections loads config files in a way that Python has given up.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
SWEEPS = sorted(Path("configs/sweeps").glob("*.py"))


def parsed(arguments):
    """The config that the training command reads from its arguments."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    values(["train", *arguments])
    return values.config


@pytest.mark.parametrize("spec", ["configs/streets.py:tiny", "configs/camvid.py:tiny"])
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_arm_builds(path, spec, named_tiny, tmp_path):
    """And the arguments that a run is started with say the same config."""
    base = load_config(spec)
    arms = plan.load(str(path), base)
    assert arms.question.endswith("?")
    runs = plan.plan(arms, base, tmp_path, seeds=(0, 1))
    assert len(runs) == 2 * len(arms.arms)
    assert len({str(run.config) for run in runs}) == len(runs)  # no arm is there twice
    for run in runs[: len(arms.arms)]:
        build.build(run.config, facts_only(run.config.data.name))
        assert parsed(plan.arguments(spec, run)).to_dict() == run.config.to_dict()


def write(folder, arms):
    path = folder / "sweep.py"
    path.write_text(f'"""Why\nso?\n\nMore."""\ndef get_arms(config):\n    return {arms}\n')
    return str(path)


def planned(folder, arms, seeds=(0,)):
    base = load_config("configs/streets.py")
    return plan.plan(plan.load(write(folder, arms), base), base, folder, seeds)


def test_runs_come_in_the_order_of_their_needs(tmp_path):
    """A seed of all arms first; a run that starts from another's network after that one."""
    arms = {"second": {"init.path": "{sweep}/first/seed{seed}"}, "first": {}, "third": {}}
    runs = planned(tmp_path, arms, seeds=(4, 2))
    names = [run.name for run in runs]
    assert names == [
        *("first/seed4", "third/seed4", "first/seed2", "third/seed2"),
        *("second/seed4", "second/seed2"),
    ]
    assert [run.config.seed for run in runs] == [4, 4, 2, 2, 4, 2]
    assert runs[4].config.init.path == str(tmp_path / "first/seed4") == str(runs[4].after)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"a": {"dropclass.alhpa": 1}}, r"arm 'a': unknown .*; did you mean dropclass\.alpha"),
        ({"a": {"dropclass": 1}}, r"arm 'a': config key 'dropclass' is a section"),
        ({"a": {"total_steps": "many"}}, r"arm 'a': total_steps = 'many'"),
        ({"a": {"seed": 1}}, r"arm 'a' sets the seed; give --seeds"),
        ({"a/b": {}}, r"'a/b' cannot be an arm's name"),
        ({}, "has no arms"),
        (["a"], r"get_arms returns \['a'\], not a dict of arms"),
        ({3: {}}, r"sweep\.py: 3 cannot be an arm's name"),
        ({"a": {"seed"}}, r"arm 'a' is \{'seed'\}, not a dict of config keys"),
        ({"a": {3: 4}}, r"arm 'a' is \{3: 4\}, not a dict of config keys"),
        ({"a": {"init.path": "{sweep}/b/seed0"}}, r"arm 'a' of the sweep needs .*/b/seed0"),
        ({"a": {"init.path": "{sweep}/a/seed0"}}, r"arm 'a' of the sweep waits for itself"),
        ({"a": {"init.path": "{sweep}/b/{sed}"}}, r"arm 'a' of the sweep needs .*/b/\{sed\}"),
    ],
)
def test_a_mistake_in_a_sweep_names_the_arm(arms, message, tmp_path):
    with pytest.raises(UserError, match=message):
        planned(tmp_path, arms)


def test_what_is_no_sweep_is_refused(tmp_path):
    config = load_config("configs/streets.py")
    with pytest.raises(UserError, match=r"nowhere\.py does not exist"):
        plan.load(str(tmp_path / "nowhere.py"), config)
    with pytest.raises(UserError, match=r"camvid\.py has no get_arms"):
        plan.load("configs/camvid.py", config)
    arms = plan.load(write(tmp_path, {"plain": {}, "drop": {}}), config)
    assert arms.question == "Why so?"
    assert list(plan.choose(arms, ["drop"]).arms) == ["drop"]
    with pytest.raises(UserError, match=r"unknown arm of the sweep 'dorp'; did you mean drop\?"):
        plan.choose(arms, ["dorp"])


def test_values_are_looked_at_before_the_first_run(tmp_path, named_tiny):
    """Such as only the data can tell, and every arm's."""
    base = load_config("configs/streets.py:tiny")
    base.data.prepared_dir = str(tmp_path)
    base.data.options.update(train=2, val=1, val_out=1)
    path = write(tmp_path, {"good": {}, "bad": {"loss.class_weights": "dataset"}})
    runs = plan.plan(plan.load(path, base), base, tmp_path, (0,))
    with pytest.raises(UserError, match=r"^arm 'bad': .*no customary class weights"):
        plan.check(runs)
    plan.check(runs[:1])


def test_every_arm_s_split_is_looked_at(tmp_path, named_tiny):
    """Of one data set, which is prepared once."""
    base = load_config("configs/streets.py:tiny")
    base.data.prepared_dir = str(tmp_path)
    base.data.options.update(train=2, val=1, val_out=1)
    arms = {"good": {}, "other": {"data.train_split": "val"}, "bad": {"data.train_split": "more"}}
    runs = plan.plan(plan.load(write(tmp_path, arms), base), base, tmp_path, (0,))
    assert len(plan.check(runs[:2])) == 1
    with pytest.raises(UserError, match=r"^arm 'bad': .* no split 'more' to train on"):
        plan.check(runs)


def test_runs_of_data_that_changed_in_between_are_not_mixed(tmp_path, named_tiny):
    """As when images are added to a folder before the last seeds are trained."""
    base = load_config("configs/streets.py:tiny")
    base.data.prepared_dir = str(tmp_path)
    base.data.options.update(train=2, val=1, val_out=1)
    path = write(tmp_path, {"a": {}, "b": {"optim.lr": 0.5}, "more": {"data.options.train": 3}})
    runs = plan.plan(plan.load(path, base), base, tmp_path, (0,))
    now = plan.check(runs)
    assert len(set(now.values())) == 2
    plan.check_data(runs, now)  # none has begun

    def begin(run, fingerprint):
        rundir.claim(run.workdir, run.config.to_dict(), fingerprint)

    here = load_data(runs[0].config).fingerprint
    begin(runs[0], here)
    begin(runs[2], "of other options")
    plan.check_data(runs[:2], now)
    plan.check_data(runs)
    begin(runs[1], "before")
    with pytest.raises(UserError, match=r"b/seed0 was trained on other data than there is now: "):
        plan.check_data(runs, now)
    with pytest.raises(UserError, match=r"b/seed0 was trained on other data than .*a/seed0 was: "):
        plan.check_data(runs)


def test_a_sweep_may_move_but_its_runs_start_from_the_same_arm_and_seed(tmp_path):
    arms = {"first": {}, "other": {}, "next": {"init.path": "{sweep}/first/seed{seed}"}}
    run = planned(tmp_path, arms)[-1]

    def begun_from(path):
        config = run.config.copy_and_resolve_references()
        config.init.path = path
        shutil.rmtree(run.workdir, ignore_errors=True)
        rundir.claim(run.workdir, config.to_dict(), "data")
        return plan.is_finished(run)

    for same in (run.config.init.path, "/old/place/first/seed0", "first/seed0"):
        assert not begun_from(same)
    for path in ("", "imagenet", "/old/first/seed1", "/old/other/seed0", "/old/not_first/seed0"):
        with pytest.raises(UserError, match=rf"a run of another config: init\.path was '{path}'"):
            begun_from(path)


def test_settings_that_change_nothing_are_named_once(tmp_path):
    """The user's where no arm looks at them, an arm's own always."""
    base = load_config("configs/streets.py")
    base.loss.ohem.threshold = 0.5
    base.loss.focal.gamma = 3.0
    arms = {"plain": {"loss.region_weight": 2.0}, "ohem": {"loss.name": "ohem"}}
    runs = plan.plan(plan.load(write(tmp_path, arms), base), base, tmp_path, (0, 1))
    given = ["loss.ohem.threshold", "loss.focal.gamma", "optim.lr"]
    notes = plan.notes(runs, arms, given)
    assert [note.split(" changes nothing")[0] for note in notes] == [
        "note: config.loss.focal.gamma",
        "arm 'plain': note: config.loss.region_weight",
    ]
