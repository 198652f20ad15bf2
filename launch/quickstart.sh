#!/usr/bin/env bash
# From nothing to an answer: install, draw a data set, train plainly and with the recipe for rare
# classes at equal steps, and compare the two class by class.
#
#   bash launch/quickstart.sh [DIR] [--config.KEY=VALUE ...]
#
# Leaves two runs, DIR/plain/seed0 and DIR/ohem_sampled_dropclass/seed0, each with its report.html, and
# DIR/compare/report.html. Continues where it stopped if it is started again.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh
dir=runs/quickstart
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  dir=$1
  shift
fi
bash launch/install.sh

# Side by side on a CPU, where two networks of half the cores each train faster than one after the
# other; on an accelerator one after the other.
jobs=1
read -r accelerator _ <.venv/installed
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) # nproc counts those that we may use; macOS has none
if [ "$accelerator" = cpu ] && [ "$cores" -gt 1 ]; then jobs=2; fi

# Few steps, in which objects of about their usual size are learnt sooner than of any.
.venv/bin/python -m dropclass_jax.ablate --sweep=configs/sweeps/imbalance.py --dir="$dir" --jobs="$jobs" \
  --arms=plain,ohem_sampled_dropclass --seeds=0 --config=configs/streets.py \
  --config.total_steps=262 --config.eval.every_steps=262 "--config.augment.scale=(0.8,1.25)" "$@"
.venv/bin/python -m dropclass_jax.compare "$dir/plain" "$dir/ohem_sampled_dropclass" --out="$dir/compare"
