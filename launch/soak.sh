#!/usr/bin/env bash
# Kill a small run by SIGKILL again and again, and compare it with one that was left alone.
#
#   bash launch/soak.sh [KILLS] [SEED]     20 kills, about 4 s each on 2 CPU cores
set -euo pipefail
cd "$(dirname "$0")/.."
bash launch/install.sh test
exec .venv/bin/python tests/soak.py "$@"
