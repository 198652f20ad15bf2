# Sourced: what the scripts of this folder share: help, refusals, and the environment of what they start.
# shellcheck shell=bash

# Large pages for glibc's heap: fewer of them to look up in a step's memory. Elsewhere it does nothing.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"

# The comment at the top of a script.
usage() { sed -n '2,${/^#SBATCH/q;/^#/!q;s/^# \{0,1\}//;p;}' "$1"; }

# One line on stderr and exit code 2, which no supervisor tries again.
fail() {
  echo "error: $*" >&2
  exit 2
}
