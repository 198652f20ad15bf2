#!/usr/bin/env bash
# From nothing to an answer: install, draw a data set, train plainly and with the recipe for rare
# classes at equal steps, and compare the two class by class.
#
#   bash launch/quickstart.sh [WORKDIR] [--config.KEY=VALUE ...]
#
# Leaves two runs, WORKDIR/plain and WORKDIR/dropclass, each with its report.html, and
# WORKDIR/compare/report.html. Continues where it stopped if it is started again.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh
workdir=runs/quickstart
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  workdir=$1
  shift
fi
bash launch/install.sh

# Both runs: the same scenes, steps and seed.
train() {
  local run=$1
  shift
  .venv/bin/python -m dropclass_jax.train --config=configs/streets.py --workdir="$workdir/$run" \
    --config.total_steps=600 --config.eval.every_steps=600 "$@"
}

train plain --config.dropclass.enabled=False "$@"
train dropclass --config.loss.name=ohem "$@"
.venv/bin/python -m dropclass_jax.compare "$workdir/plain" "$workdir/dropclass" --out="$workdir/compare"
