#!/usr/bin/env bash
# Install everything and run the default tests; arguments go to pytest.
#
#   bash launch/test.sh                 lint, format, the default tests
#   bash launch/test.sh -m slow         the long ones
set -euo pipefail
cd "$(dirname "$0")/.."
bash launch/install.sh test
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# Tests check numbers on the CPU, whatever else the machine has; `-m gpu` asks for the rest.
case "$*" in *gpu*) ;; *) export JAX_PLATFORMS=cpu ;; esac
# A worker a core: XLA compiles on one core at a time, and compiling is most of the tests' time.
exec .venv/bin/python -m pytest -n auto --dist loadfile "$@"
