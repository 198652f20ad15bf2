#!/usr/bin/env bash
# Keep a command running without a terminal: with a log, an exit code, and restarts after a crash.
#
#   bash launch/supervise.sh start FOLDER [--restarts=N] COMMAND...   in the background
#   bash launch/supervise.sh logs FOLDER     follow the log until the command ends; exits as it did
#   bash launch/supervise.sh status FOLDER   none, running, exited CODE, stopped CODE or lost
#   bash launch/supervise.sh stop FOLDER [--grace=SECONDS]   SIGTERM; SIGKILL after the grace (120)
#
# `stopped` says that `stop` ended it; `lost`, that the machine or what keeps it running went down.
# A command whose keeper alone was killed is still `running`, and is not started twice. Exit codes 0
# (done), 2 (a user's mistake), 129, 130 and 143 (told to stop) end the matter; after any other the
# command is started again after $SUPERVISE_DELAY seconds (10), up to N times (0). multi_gpu.sh and
# tpu_vm.sh are made of this. For Linux.
set -euo pipefail

# shellcheck source=launch/common.sh
source "$(dirname "$0")/common.sh"

# A pid alone may have gone to another process since: after a restart of the machine above all.
supervised() {
  local pid
  pid=$(cat "$folder/pid" 2>/dev/null) && grep -qszFx "$folder" "/proc/$pid/cmdline"
}

# The command goes on when something kills its supervisor: then there is nobody to start it again.
orphaned() {
  local pid since
  read -r pid since 2>/dev/null <"$folder/child" &&
    [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]
}

running() { supervised || orphaned; }

# When a process started, in clock ticks since the boot, after the machine's boot id: no other
# process has both. Nothing for a process that is gone, or a zombie that nobody has waited for.
started() {
  local stat fields
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
  read -ra fields <<<"${stat##*) }" # the name of the program, before that, may hold anything
  [ "${fields[0]}" = Z ] || echo "$(cat /proc/sys/kernel/random/boot_id)/${fields[19]}"
}

status() {
  if running; then
    echo running
  elif [ -f "$folder/result" ]; then
    cat "$folder/result"
  elif [ -f "$folder/pid" ]; then
    echo lost
  else
    echo none
  fi
}

start() {
  ! running || fail "already running, see $folder/log; stop it first"
  mkdir -p "$folder"
  rm -f "$folder/pid" "$folder/child" "$folder/result"
  echo "--- $(date '+%F %T'): $*" >>"$folder/log"
  # A session of its own, and none of the terminal's files: nothing ends it with the terminal.
  setsid bash "$0" supervise "$folder" --restarts="$restarts" "$@" >>"$folder/log" 2>&1 </dev/null &
  trap : INT # from here on it is there, and a Ctrl-C has to find it
  until [ -f "$folder/pid" ]; do
    kill -0 $! 2>/dev/null || fail "could not start; see $folder/log"
    sleep 0.1 || true
  done
}

# The process that stays. Its result is there before it ends: who sees it gone finds the result.
supervise() {
  local crashes=0 asked='' child='' code interrupted
  set -m # a process group for the command: what a terminal sends reaches it through us alone
  trap 'forward TERM' TERM
  trap 'forward INT' INT
  echo $$ >"$folder/pid"
  while :; do
    "$@" &
    child=$!
    echo "$child $(started "$child")" >"$folder/child"
    await "$child"
    case $code in 0 | 2 | 129 | 130 | 143) break ;; esac
    if [ -n "$asked" ] || [ "$crashes" -ge "$restarts" ]; then
      break
    fi
    crashes=$((crashes + 1))
    echo "exited with $code; restart $crashes of $restarts in $delay seconds"
    sleep "$delay" &
    child=$!
    await "$child"
    [ -z "$asked" ] || break
  done
  case $code in 0 | 2) asked='' ;; esac
  echo "${asked:-exited} $code" >"$folder/result.new"
  mv "$folder/result.new" "$folder/result"
}

forward() {
  asked=stopped interrupted=yes
  [ -z "$child" ] || kill -s "$1" -- "-$child" 2>/dev/null || true
}

# Wait for a child through signals, each of which ends `wait` early. Sets `code`.
await() {
  interrupted=yes
  while [ -n "$interrupted" ]; do
    interrupted=''
    code=0
    wait "$1" || code=$?
  done
}

logs() {
  [ -f "$folder/log" ] || fail "nothing was started in $folder"
  local followed
  followed=$(cat "$folder/pid")
  if ! supervised && orphaned; then read -r followed _ <"$folder/child"; fi
  tail -n 200 -s 0.5 -f --pid="$followed" "$folder/log"
  local code
  read -r _ code <<<"$(status)"
  exit "${code:-1}"
}

stop() {
  running || return 0
  local child waited=0
  if supervised; then
    kill -TERM "$(cat "$folder/pid")"
  else
    read -r child _ <"$folder/child"
    kill -TERM -- "-$child"
  fi
  while running; do
    if [ "$waited" -eq "$grace" ]; then
      echo "not gone after $grace seconds: killed" >&2
      read -r child _ <"$folder/child"
      kill -KILL -- "-$child" 2>/dev/null || true
    fi
    sleep 1
    waited=$((waited + 1))
  done
}

command=${1:-}
case $command in
  start | supervise | logs | status | stop) ;;
  -h | --help) usage "$0" && exit ;;
  *) fail "the first argument is start, logs, status or stop; --help tells more" ;;
esac
[ $# -ge 2 ] || fail "$command needs a folder"
folder=$(realpath -m "$2")
shift 2
restarts=0 grace=120 delay=${SUPERVISE_DELAY:-10}
while [ $# -gt 0 ]; do
  case $1 in
    --restarts=*) restarts=${1#*=} ;;
    --grace=*) grace=${1#*=} ;;
    *) break ;;
  esac
  shift
done
case $command in start | supervise) [ $# -gt 0 ] || fail "$command needs a command to run" ;; esac
"$command" "$@"
