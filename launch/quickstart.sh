#!/usr/bin/env bash
# From nothing to a report: install, draw a data set, train DropClass on it, evaluate, report.
#
#   bash launch/quickstart.sh [WORKDIR] [--config.KEY=VALUE ...]
#
# Continues where it stopped if it is started again.
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=runs/quickstart
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  workdir=$1
  shift
fi
bash launch/install.sh
.venv/bin/python -m dropclass_jax.train --config=configs/streets.py --workdir="$workdir" "$@"
