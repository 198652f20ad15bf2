"""tpu_vm.sh, with a stand-in for gcloud."""

import os
import shlex
import shutil
import signal

import pytest
from launch_world import ARGUMENTS, is_one_line

UP, RUN = ([command, "--name=x", "--type=v4-8"] for command in ("up", "run"))
TPU = ["--name=big", "--type=v5litepod-16", "--zone=z", "--project=p", "--poll=0"]


@pytest.mark.parametrize(
    "options",
    [
        ["run"],
        ["run", "--spot", "--setup=mkdir -p '/tmp/x y'; cd /", "--then-down"],
        ["run", "--queued", "--spot", "--then-down"],
        ["up"],
    ],
    ids=lambda options: "".join(options[:2]),
)
def test_a_dry_run_prints_what_a_run_executes(world, options):
    options = [*options, *TPU, *(["--", *ARGUMENTS] if options[0] == "run" else [])]
    printed = world.run("tpu_vm.sh", options[0], "--dry-run", *options[1:])
    assert printed.returncode == 0, printed.stderr
    assert not world.records("calls")
    assert not (world.project / "build").exists()

    executed = world.run("tpu_vm.sh", *options)
    assert executed.returncode == 0, executed.stderr
    commands = [shlex.split(line) for line in printed.stdout.splitlines()]
    commands = [command[2:] if command[0] == "env" else command for command in commands]
    assert commands == world.records("calls")


def test_the_dry_run_of_each_other_command(world):
    for command, word in (("stop", "supervise.sh stop"), ("logs", "supervise.sh logs")):
        result = world.run("tpu_vm.sh", command, *TPU, "--dry-run", "--worker=3")
        assert word in result.stdout
        assert f"--worker={'3' if command == 'logs' else 'all'}" in result.stdout
    assert "tpu-vm delete big" in world.run("tpu_vm.sh", "down", *TPU, "--dry-run").stdout
    queued = world.run("tpu_vm.sh", "down", *TPU, "--dry-run", "--queued")
    assert "queued-resources delete big --force" in queued.stdout
    assert "supervise.sh status" in world.run("tpu_vm.sh", "status", *TPU, "--dry-run").stdout
    assert not world.records("calls")


def test_every_worker_gets_the_arguments_as_they_were_given(world):
    result = world.run("tpu_vm.sh", "run", *TPU, "--", *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    assert "step 1" in result.stdout  # worker 0's log
    starts = world.records("starts")
    assert sorted(start["worker"] for start in starts) == ["0", "1"]
    for start in starts:
        assert start["arguments"] == ["--distributed", *ARGUMENTS]
    assert "tpu_vm.sh down --name=big" in result.stderr  # it is paid for


def test_after_a_preemption_the_vm_is_made_anew_and_the_run_goes_on(world):
    world.set(outcomes_0=["preempted", "preempted", "0"], outcomes_1=["wait", "wait", "0"])
    result = world.run("tpu_vm.sh", "run", *TPU, "--spot", "--", *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    changes = [call[3] for call in world.calls("gcloud") if call[3] in ("create", "delete")]
    assert changes == ["create", "delete", "create", "delete", "create"]
    assert [s["arguments"] for s in world.records("starts")] == 6 * [["--distributed", *ARGUMENTS]]


def test_a_mistake_on_any_worker_ends_it(world):
    world.set(outcomes_1=["2"], outcomes_0=["1"])
    result = world.run("tpu_vm.sh", "run", *TPU, "--", *ARGUMENTS)
    assert result.returncode == 2
    assert "a mistake" in result.stderr
    assert "error: the trainer's own message" in result.stdout  # though it is not in worker 0's log
    assert len(world.records("starts")) == 2


def test_crashes_are_bounded(world):
    world.set(outcomes_0=["1", "137", "1", "0"])
    result = world.run("tpu_vm.sh", "run", *TPU, "--retries=2", "--", *ARGUMENTS)
    assert result.returncode == 1
    assert "crashed after 2 more starts" in result.stderr
    assert len([s for s in world.records("starts") if s["worker"] == "0"]) == 3


def test_a_failing_setup_is_bounded(world):
    result = world.run("tpu_vm.sh", "run", *TPU, "--retries=1", "--setup=false", "--", *ARGUMENTS)
    assert result.returncode == 1
    assert "not started after 1 more starts" in result.stderr
    assert not world.records("starts")


def test_a_comment_in_setup_ends_with_it(world):
    setup = "--setup=mount /disk || true  # 'the run's disk'"
    result = world.run("tpu_vm.sh", "run", *TPU, setup, "--", *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    assert [s["arguments"] for s in world.records("starts")] == 2 * [["--distributed", *ARGUMENTS]]


def test_it_waits_for_capacity_but_not_for_a_quota(world):
    world.set(creations=["There is no more capacity in the zone", "ok"])
    result = world.run("tpu_vm.sh", "run", *TPU, "--", *ARGUMENTS)
    assert result.returncode == 0
    assert "waiting for capacity" in result.stderr
    world.run("tpu_vm.sh", "down", *TPU)
    world.set(creations=["RESOURCE_EXHAUSTED: Quota limit exceeded, no capacity", "ok"])
    result = world.run("tpu_vm.sh", "run", *TPU, "--", *ARGUMENTS)
    assert result.returncode == 1
    assert "Quota limit exceeded" in result.stderr
    assert (world.state / "creations").read_text() == "ok\n"  # it did not ask again


def test_waiting_is_bounded(world):
    world.set(vm=["CREATING"])
    result = world.run("tpu_vm.sh", "up", *TPU, "--wait=1")
    assert result.returncode == 1
    assert "waited 1 minutes for big, which is CREATING" in result.stderr


def test_a_queued_request_is_waited_for_and_made_again_when_suspended(world):
    world.set(request=["SUSPENDED"], requests=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    result = world.run("tpu_vm.sh", "up", *TPU, "--queued")
    assert result.returncode == 0, result.stderr
    assert "which is WAITING_FOR_RESOURCES" in result.stderr
    calls = [call[2:4] for call in world.calls("gcloud") if call[3] in ("create", "delete")]
    assert calls == [["queued-resources", "delete"], ["queued-resources", "create"]]


def test_stop_ends_run_and_ctrl_c_does_not(world):
    world.set(outcomes_0=["wait"], outcomes_1=["wait"])
    first = world.start("tpu_vm.sh", "run", *TPU, "--", *ARGUMENTS)
    world.wait_for_start(2)
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "the run goes on" in errors
    assert "running" in world.run("tpu_vm.sh", "status", *TPU).stdout
    refused = world.run("tpu_vm.sh", "up", *TPU)
    assert is_one_line(refused, "big is training")

    second = world.start("tpu_vm.sh", "run", *TPU, "--", *ARGUMENTS)
    assert "following the run that goes on" in second.stderr.readline()
    assert world.run("tpu_vm.sh", "stop", *TPU).returncode == 0
    output, errors = second.communicate(timeout=120)
    assert second.returncode == 143, errors
    assert "saved" in output
    assert len(world.records("starts")) == 2
    assert "stopped 143" in world.run("tpu_vm.sh", "status", *TPU).stdout
    assert world.run("tpu_vm.sh", "down", *TPU).returncode == 0
    assert "there is no big" in world.run("tpu_vm.sh", "down", *TPU).stderr


def test_the_workers_get_the_working_tree_as_it_is(world):
    (world.project / "configs/mine.py").write_text("mine\n")
    (world.project / "a_data_set").mkdir()
    assert world.run("tpu_vm.sh", "up", *TPU).returncode == 0
    workers = [world.state / f"worker{n}/dropclass_jax" for n in (0, 1)]
    for worker in workers:
        assert (worker / "configs/mine.py").read_text() == "mine\n"
        assert not (worker / "a_data_set").exists()
        assert (worker / ".venv/installed").exists()  # by install.sh
    (world.project / "configs/mine.py").unlink()
    assert world.run("tpu_vm.sh", "up", *TPU).returncode == 0
    for worker in workers:
        assert not (worker / "configs/mine.py").exists()
        assert (worker / "configs/base.py").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["first argument"]),
        (["up"], ["--name"]),
        (["up", "--name=X"], ["--name=X"]),
        (["up", "--name=x"], ["--type"]),
        (["up", "--name=x", "--type=v9-8"], ["v9-8", "--version"]),
        (["up", "--name=x", "--tipe=v4-8"], ["--tipe=v4-8"]),
        (["up", "--name=x", "--type=v4-8", "--retries=many"], ["--retries"]),
        ([*UP, "--", "--config=a"], ["no arguments"]),
        (UP, ["project", "gcloud config set"]),
        ([*UP, "--project=p"], ["zone", "gcloud config set"]),
        (RUN, ["--config", "--workdir"]),
        ([*RUN, "--", "--config=configs/no.py", "--workdir=r"], ["no.py"]),
        ([*RUN, "--", "--config=README.md", "--workdir=r"], ["configs/"]),
        ([*RUN, "--", "--config=configs/base.py", "--workdir=gs://b/r"], ["gs://b/r", "mount"]),
    ],
)
def test_mistakes_cost_nothing(world, arguments, words):
    assert is_one_line(world.run("tpu_vm.sh", *arguments), *words)
    assert not [call for call in world.calls("gcloud") if call[0] != "config"]


def test_without_gcloud(world):
    bare = world.state / "bare"
    bare.mkdir()
    for name in ("bash", "dirname"):
        (bare / name).symlink_to(shutil.which(name))
    assert is_one_line(world.run("tpu_vm.sh", "status", *TPU, PATH=str(bare)), "gcloud is missing")
