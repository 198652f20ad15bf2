"""Stand-ins for what launch/ calls: ``launch_fakes.py PROGRAM ARGUMENTS...``.

Their state lies in ``$FAKE_STATE``: ``calls`` and ``starts`` record, other files say what comes.
The folders ``worker0`` and ``worker1`` are the two workers of the one TPU VM there can be.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_STATE"])
RECORDED = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "JAX_LOCAL_DEVICE_IDS",
    "SRUN_CPUS_PER_TASK",
)
WORKERS = [STATE / "worker0", STATE / "worker1"]


def record(name, value):
    with open(STATE / name, "a") as file:
        file.write(json.dumps(value) + "\n")


def read(name):
    """The first line of a file, or ''."""
    path = STATE / name
    lines = path.read_text().splitlines() if path.exists() else []
    return lines[0] if lines else ""


def take(name, default):
    """Take the first line off a file."""
    first = read(name)
    if not first:
        return default
    path = STATE / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    return first


def option(arguments, name):
    return next((a.split("=", 1)[1] for a in arguments if a.startswith(f"--{name}=")), "")


def python(arguments):
    """Of .venv: the trainer's part is played, pip's is nothing, all else is real."""
    if arguments[:2] == ["-m", "dropclass_jax.train"]:
        return trainer(arguments[2:])
    if arguments[:2] == ["-m", "pip"]:
        return 0
    if arguments[:2] in (["-m", "dropclass_jax.ablate"], ["-m", "dropclass_jax.compare"]):
        record("calls", ["python", *arguments[1:]])
        return int(take("outcomes", "0"))
    real = os.environ["FAKE_PYTHON"]
    os.execv(real, [real, *arguments])


def trainer(arguments):
    """Ends as the next line of ``outcomes`` says: a code, 'wait' for a signal, or 'preempted'."""
    worker = os.environ.get("FAKE_WORKER", "")

    def stop(number, frame):
        print(f"signal {number}", flush=True)
        time.sleep(0.3)
        print("saved", flush=True)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    outcome = take(f"outcomes_{worker}" if worker else "outcomes", "0")
    env = {key: os.environ[key] for key in RECORDED if key in os.environ}
    record("starts", {"arguments": arguments, "worker": worker, "pid": os.getpid(), "env": env})
    print("step 1", flush=True)
    if outcome == "wait":
        time.sleep(60)
    if outcome == "preempted":
        (STATE / "vm").write_text("PREEMPTED\n")
        return 143
    if outcome == "2":
        print("error: the trainer's own message", flush=True)
    return int(outcome)


def gcloud(arguments):
    record("calls", ["gcloud", *arguments])
    if arguments[0] == "config":
        return 0  # nothing is configured
    _, _, kind, verb = arguments[:4]
    if verb == "list" and kind == "queued-resources":
        print(read("request"))
        if read("request") not in ("", "ACTIVE", "SUSPENDED"):  # the next time it is further
            (STATE / "request").write_text(take("requests", "ACTIVE") + "\n")
    elif verb == "list":
        print(read("vm"))
    elif verb == "create":
        return create(kind)
    elif verb == "delete":
        for name in ("vm", "request"):
            (STATE / name).unlink(missing_ok=True)
        for worker in WORKERS:
            shutil.rmtree(worker, ignore_errors=True)
    elif read("vm") != "READY":
        print("ERROR: the TPU is in an unusable state", file=sys.stderr)
        return 1
    elif verb == "scp":
        for worker in WORKERS:
            shutil.copy(arguments[4], worker)
    elif verb == "ssh":
        chosen = option(arguments, "worker")
        codes = [
            shell(number, option(arguments, "command"))
            for number in range(len(WORKERS))
            if chosen in ("all", str(number))
        ]
        return next((code for code in codes if code), 0)
    return 0


def create(kind):
    if (error := take("creations", "ok")) != "ok":
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    (STATE / "vm").write_text("READY\n")
    if kind == "queued-resources":
        (STATE / "request").write_text(take("requests", "ACTIVE") + "\n")
    project = Path.cwd()
    for worker in WORKERS:
        fake = worker / "dropclass_jax/.venv/bin/python"
        fake.parent.mkdir(parents=True)
        shutil.copy(project / ".venv/bin/python", fake)
    return 0


def shell(number, command):
    """What ssh does on a worker; nothing of the other stand-ins is there."""
    env = {**os.environ, "HOME": str(WORKERS[number]), "FAKE_WORKER": str(number)}
    env["PATH"] = os.environ["REAL_PATH"]
    return subprocess.run(["bash", "-c", command], cwd=WORKERS[number], env=env).returncode


def tar(arguments):
    record("calls", ["tar", *arguments])
    return subprocess.run(
        ["tar", *arguments], env={**os.environ, "PATH": os.environ["REAL_PATH"]}
    ).returncode


def nvidia_smi(arguments):
    """``gpus`` holds ``index, MiB in use``; four idle ones without it."""
    path = STATE / "gpus"
    gpus = path.read_text() if path.exists() else "0, 3\n1, 3\n2, 3\n3, 3\n"
    if not gpus:
        return 9
    if "--query-gpu=index,memory.used" in arguments:
        print(gpus, end="")
    return 0


def srun(arguments):
    record("calls", ["srun", *arguments])
    command = arguments[[a.startswith("--") for a in arguments].index(False) :]
    codes = [
        subprocess.run(command, env={**os.environ, "SLURM_PROCID": str(n)}).returncode
        for n in range(int(os.environ["SLURM_JOB_NUM_NODES"]))
    ]
    return max(codes)


def squeue(arguments):
    print(read("job"))
    return 0


def scontrol(arguments):
    record("calls", ["scontrol", *arguments])
    return 0


if __name__ == "__main__":
    program, *rest = sys.argv[1:]
    sys.exit(globals()[program.replace("-", "_")](rest))
