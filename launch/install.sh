#!/usr/bin/env bash
# Make .venv and install the package with the jax that fits this machine.
#
#   bash launch/install.sh [EXTRA]      e.g. `test` for what the tests need
#
# PYTHON=python3.12 chooses an interpreter, PYTHON=uv fetches one if the machine has none that is new
# enough (Ubuntu 22.04, as on TPU VMs), ACCELERATOR=cpu|cuda12|cuda13|tpu overrides what is found.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:-}

usable() { command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
    if usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or newer found; fetch one: PYTHON=uv bash $0, or name it: PYTHON=/path/to/python3" >&2
  exit 1
}

find_accelerator() {
  if [ -n "${ACCELERATOR:-}" ]; then
    echo "$ACCELERATOR"
  elif nvidia-smi -L >/dev/null 2>&1; then
    # The driver decides which CUDA it can serve.
    case "$(nvidia-smi | grep -o 'CUDA[^:]*Version: [0-9]*' | grep -o '[0-9]*$')" in
      12) echo cuda12 ;;
      *) echo cuda13 ;;
    esac
  elif [ -e /dev/accel0 ] || [ -e /dev/vfio/0 ]; then
    echo tpu
  else
    echo cpu
  fi
}

make_venv() {
  if [ "${PYTHON:-}" = uv ]; then
    # In a folder of its own: distributions forbid pip to touch their Python, and uv need not stay.
    python3 -m pip install -qq --disable-pip-version-check --target build/uv uv
    build/uv/bin/uv venv -q --seed --python '>=3.11,<3.13' .venv
    return
  fi
  local python
  python=$(find_python)
  "$python" -m venv .venv || {
    echo "error: $python cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv" >&2
    exit 1
  }
}

accelerator=$(find_accelerator)
[ -x .venv/bin/python ] || make_venv

# Installing again what is there costs seconds of every start: skip it while nothing has changed.
stamp="$accelerator $extra $(cat requirements.txt pyproject.toml | cksum)"
if [ "$(cat .venv/installed 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
echo "installing into .venv for $accelerator ($(.venv/bin/python --version)) ..."
.venv/bin/python -m pip install -qq --disable-pip-version-check --upgrade pip
packages=(--editable ".${extra:+[$extra]}")
if [ "$accelerator" != cpu ]; then
  packages+=("$(sed -n "s/^jax\([><=].*\)/jax[$accelerator]\1/p" requirements.txt)")
fi
.venv/bin/python -m pip install -qq --disable-pip-version-check "${packages[@]}"
echo "$stamp" >.venv/installed
