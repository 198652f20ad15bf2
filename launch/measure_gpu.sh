#!/usr/bin/env bash
# Measure on a GPU, within a time budget: what is worth most comes first, and when time is up there
# is what was measured until then.
#
#   bash launch/measure_gpu.sh [OPTIONS]
#
# Options:
#   --minutes=12    all of the time, 1 or more
#   --out=DIR       where results go (results/gpu)
#   --camvid=DIR    CamVid as it is downloaded, for the training; without it drawn scenes
#   --init=WEIGHTS  what that training starts from, as `imagenet`; without it, from scratch
#   --config.X=V    the same of that training, as of dropclass_jax.train
#   --config=FILE   instead of configs/camvid.py or, without CamVid, configs/streets.py
#   --tiny          small networks and sizes, on whatever device there is: a try of this script
#   --dry_run       print the commands
#
# In this order, each under a limit of its own and within what is left: training and inference
# against PyTorch (compiled, mixed precision, channels last); the tests that need a GPU; a training;
# remat, donation and block sizes of the loss; the comparison for other networks. DIR then has
# a JSON file for each, `parts.jsonl` with how each part went, and `log`. A benchmark whose time is
# up writes what it has measured until then.
#
# Runs the project's .venv or, if there is none, $PYTHON or python3 with what is installed there.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=launch/common.sh
source launch/common.sh

minutes=12 out=results/gpu camvid='' init='' config='' tiny='' dry_run='' settings=()
for option in "$@"; do
  case $option in
    --help | -h)
      usage launch/measure_gpu.sh
      exit
      ;;
    --minutes=*) minutes=${option#*=} ;;
    --out=*) out=${option#*=} ;;
    --camvid=*) camvid=${option#*=} ;;
    --init=*) init=${option#*=} ;;
    --config.*) settings+=("$option") ;;
    --config=*) config=${option#*=} ;;
    --tiny) tiny=yes ;;
    --dry_run) dry_run=yes ;;
    *) fail "unknown option $option; see bash launch/measure_gpu.sh --help" ;;
  esac
done
case $minutes in
  '' | 0* | *[!0-9]*) fail "--minutes=$minutes: want a whole number, 1 or more" ;;
esac
[ -z "$camvid" ] || [ -d "$camvid" ] || fail "--camvid=$camvid: there is no such folder"

# shellcheck source=launch/dry_run.sh
source launch/dry_run.sh

python=.venv/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" # the package need not be installed
export XLA_PYTHON_CLIENT_PREALLOCATE=false          # PyTorch shares the device's memory

platform() { "$python" -c 'import jax; print(jax.default_backend())'; }

if [ -z "$dry_run" ]; then
  found=$(platform) || fail "$python cannot run jax; PYTHON=/path/to/python names another"
  [ "$found" != cpu ] || [ -n "$tiny" ] || fail "jax finds no GPU here; --tiny tries the script on a CPU"
  mkdir -p "$out"
  : >"$out/parts.jsonl"
  : >"$out/log"
fi
work=$(mktemp -d) # the training's folder: only its results are kept
trap 'rm -rf "$work"' EXIT

deadline=$((SECONDS + 60 * minutes))

# NAME, its limit in percent of all of the time, COMMAND...
part() {
  local name=$1 limit=$((60 * minutes * $2 / 100)) left=$((deadline - SECONDS)) start=$SECONDS code=0
  shift 2
  [ "$limit" -lt "$left" ] || limit=$left
  if [ -n "$dry_run" ]; then
    execute "$@"
    return
  fi
  if [ "$limit" -lt 10 ]; then
    code=skipped
  else
    echo "$name (at most $limit s)"
    timeout --kill-after=10 "$limit" "$@" >>"$out/log" 2>&1 </dev/null || code=$?
  fi
  case $code in
    0) result="done" ;;
    124 | 137) result="out of time" ;;
    skipped) result="no time left" ;;
    *) result="failed with exit code $code" ;;
  esac
  echo "$name: $result after $((SECONDS - start)) s"
  "$python" - "$name" "$result" "$((SECONDS - start))" "$@" >>"$out/parts.jsonl" <<'END'
import json, shlex, sys, time
name, result, seconds, *command = sys.argv[1:]
date = time.strftime("%Y-%m-%dT%H:%M:%S%z")
print(json.dumps({"part": name, "result": result, "seconds": int(seconds), "date": date,
                  "command": shlex.join(command)}))
END
}

if [ -n "$tiny" ]; then
  sizes=("--size=32,64" --batch=2 --classes=5 --repeats=1 --quick)
  first=hrnet_w18_small_v1 others=(efficientnet_lite0)
  training=(--config.total_steps=4 --config.eval.every_steps=4 --config.batch_size=4
    --config.model.name=lr_aspp_mobilenet_v3_small)
else
  sizes=("--size=512,1024" --dtype=bfloat16 --torch_compile=yes)
  first=hrnet_w18_small_v2 others=(hrnet_w48 deeplab_v3_resnet50 lr_aspp_mobilenet_v3_large)
  training=(--config.model.dtype=bfloat16)
fi
if [ -n "$camvid" ]; then
  training=(--config="${config:-configs/camvid.py}" "--config.data.dir=$camvid" "${training[@]}")
else
  [ -z "$tiny" ] || training+=(--config.data.options.{train,val,val_out}"=8")
  training=(--config="${config:-configs/streets.py}" "${training[@]}")
fi
[ -z "$init" ] || training+=("--config.init.path=$init")
training+=(${settings[@]+"${settings[@]}"}) # bash of macOS: an empty array counts as unset

benchmark() { # NAME LIMIT OPTIONS...
  part "$1" "$2" "$python" -m dropclass_jax.benchmark "${sizes[@]}" "${@:3}" --out="$out/$1.json"
}

# Compiling is most of the time, and much of it needs one core: side by side where that takes no timing.
benchmark torch_$first 50 --model=$first --only=torch --at_once=$((60 * minutes * 40 / 100))
part gpu_tests 25 "$python" -m pytest -q -m gpu -n 5 tests/gpu
part training 30 "$python" -m dropclass_jax.train "${training[@]}" --workdir="$work/run"
for end in json jsonl; do
  [ ! -f "$work/run/metrics.$end" ] || cp "$work/run/metrics.$end" "$out/training.$end"
done
benchmark settings_$first 40 --model=$first --only=steps,hardware,settings
for model in "${others[@]}"; do
  benchmark "torch_$model" 40 --model="$model" --only=torch
done
if [ -z "$dry_run" ]; then echo "all results are in $out"; fi
