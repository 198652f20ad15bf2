#!/usr/bin/env bash
# Train on the GPUs of this machine: one process drives all of them.
#
#   bash launch/multi_gpu.sh [OPTIONS] --config=CONFIG --workdir=RUN [--config.KEY=VALUE ...]
#   bash launch/multi_gpu.sh logs|status|stop --workdir=RUN
#
# Options:
#   --gpus=0,1      these GPUs, numbered as nvidia-smi does; by default as many idle ones as divide
#                   the batches of training and evaluation. $CUDA_VISIBLE_DEVICES is respected
#   --detach        return at once; else follow the log
#   --restarts=N    after a crash, start again at most N times (5); the run continues by itself
#
# Training lives on when the terminal goes. Ctrl-C in the terminal that follows it, and `stop`, let
# it save and end. RUN.launch holds its log. Everything else is for dropclass_jax.train.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=launch/common.sh
source launch/common.sh

supervise() { bash launch/supervise.sh "$1" "$workdir.launch" "${@:2}"; }

# The batch of the config, as the trainer will read it, and what the number of devices must divide:
# a part of it, and a batch of evaluation. Nothing if it cannot be read: the trainer says why.
batches() {
  .venv/bin/python - "$@" 2>/dev/null <<'END' || true
import math
import sys
from absl import flags
from ml_collections import config_flags

config = config_flags.DEFINE_config_file("config")
flags.FLAGS(sys.argv, known_only=True)
batch, parts = config.value.batch_size, config.value.accumulate_steps
part = batch // parts if batch % parts == 0 else batch
print(batch, math.gcd(part, config.value.eval.batch_size))
END
}

# GPUs with less than 1 GiB in use, one index a line.
idle_gpus() {
  nvidia-smi --query-gpu=index,memory.used --format=csv,noheader,nounits |
    awk -F', *' '$2 < 1024 { print $1 }'
}

# As many of the idle GPUs as the batches can be split over, `0,1,...`.
choose_gpus() {
  local shared=$1 idle count
  idle=$(idle_gpus)
  [ -n "$idle" ] || fail "no GPU is idle (nvidia-smi shows who uses them); name some: --gpus=0,1"
  count=$(wc -l <<<"$idle")
  if [ -n "$shared" ]; then
    while [ $((shared % count)) -ne 0 ]; do count=$((count - 1)); done
  fi
  head -n "$count" <<<"$idle" | paste -sd, -
}

check_batch() {
  local batch=$1 shared=$2 gpus=$3 count
  count=$(tr ',' '\n' <<<"$gpus" | grep -c .)
  if [ -n "$batch" ] && [ $((batch % count)) -ne 0 ]; then
    fail "a batch of $batch does not divide over $count GPUs ($gpus);" \
      "change --gpus, or --config.batch_size to a multiple of $count"
  fi
  if [ -n "$shared" ] && [ $((shared % count)) -ne 0 ]; then
    fail "a part of the batch (--config.accumulate_steps) or a batch of evaluation does not divide" \
      "over $count GPUs ($gpus); change --gpus, or make --config.eval.batch_size a multiple of $count"
  fi
}

# Ctrl-C while following: the log's reader is gone, the run is not.
interrupted() {
  echo "stopping; the run saves first"
  supervise stop
  tail -n 3 "$workdir.launch/log"
  exit 130
}

train() {
  [ "$(supervise status)" != running ] || fail "$workdir is being trained already; see" \
    "bash launch/multi_gpu.sh logs --workdir=$workdir"
  command -v nvidia-smi >/dev/null || fail "there is no nvidia-smi here; is the NVIDIA driver installed?"
  nvidia-smi -L >/dev/null || fail "nvidia-smi finds no GPU"
  bash launch/install.sh
  local batch shared
  read -r batch shared < <(batches "$@") || true
  gpus=${gpus:-${CUDA_VISIBLE_DEVICES:-}}
  gpus=${gpus:-$(choose_gpus "$shared")}
  check_batch "$batch" "$shared" "$gpus"
  echo "training on GPU $gpus${batch:+, a batch of $batch over them}; log: $workdir.launch/log"
  [ -n "$detach" ] || trap interrupted INT
  # CUDA counts the fastest GPU first unless it is told to count as nvidia-smi.
  CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=$gpus \
    supervise start --restarts="$restarts" .venv/bin/python -m dropclass_jax.train "$@"
  if [ -n "$detach" ]; then
    echo "follow it: bash launch/multi_gpu.sh logs --workdir=$workdir"
  else
    supervise logs
  fi
}

command=train
case ${1:-} in
  logs | status | stop) command=$1 && shift ;;
  -h | --help) usage launch/multi_gpu.sh && exit ;;
esac
gpus='' restarts=5 detach='' workdir='' arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --gpus=*) gpus=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --detach) detach=yes ;;
    --workdir=*) workdir=${1#*=} && workdir=${workdir%/} && arguments+=("$1") ;;
    --workdir) fail "write --workdir=RUN, with =" ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
[ -n "$workdir" ] || fail "--workdir=RUN is missing; --help tells more"
case $command in
  train) train "${arguments[@]}" ;;
  *) supervise "$command" ;;
esac
