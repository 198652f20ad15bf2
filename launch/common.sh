# Sourced: how the scripts of this folder show their help and refuse a mistake.
# shellcheck shell=bash

# The comment at the top of a script.
usage() { sed -n '2,${/^#SBATCH/q;/^#/!q;s/^# \{0,1\}//;p;}' "$1"; }

# One line on stderr and exit code 2, which no supervisor tries again.
fail() {
  echo "error: $*" >&2
  exit 2
}
