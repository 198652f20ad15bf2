#!/usr/bin/env bash
# Train on a Cloud TPU VM, from one host to a pod slice, and on again after each preemption.
#
#   bash launch/tpu_vm.sh run --name=NAME --type=TYPE [OPTIONS] -- --config=CONFIG --workdir=RUN ...
#   bash launch/tpu_vm.sh up|status|logs|stop|down --name=NAME [OPTIONS]
#
#   run      create the VM unless it is there, copy the project, install, start the same command on
#            every worker, follow worker 0's log; after a preemption or a crash, all of it again.
#            Called again, it follows the run that goes on
#   up       the first half of it: create, copy, install
#   status   what the VM does, and the run on each of its workers
#   logs     follow the log of worker 0, or of --worker=N
#   stop     let the run save and end; the VM stays
#   down     delete the VM
#
# Options:
#   --name=NAME           of the VM; needed
#   --type=TYPE           accelerator type, as v5litepod-16; needed by run and up
#   --zone=, --project=   by default those of `gcloud config`
#   --version=VERSION     of the TPU software; by default the one for TYPE
#   --spot                cheaper, and may be preempted
#   --queued              ask by a queued resource
#   --setup=COMMAND       on every worker before each start: to mount the run's disk, for instance
#   --retries=N           starts after the first one (10)
#   --wait=MINUTES        for capacity, or for a VM that is not ready (1440)
#   --poll=SECONDS        between two looks at the VM (30)
#   --then-down           delete the VM once training is done
#   --dry-run             print every command, for a VM that is not there yet, and run none
#
# RUN and the data must lie where every worker finds them, and finds them again when the VM was made
# anew: on a mounted NFS share or bucket, not on the VM's own disk. The run needs no connection, and
# Ctrl-C ends `run` alone; but only while `run` lives is a preempted VM made anew.
# Exit code: 0 when training is done, 2 for a mistake, 143 after `stop`, 1 for all else.
set -euo pipefail
cd "$(dirname "$0")/.."

archive=build/dropclass_jax.tar.gz
packed=(README.md LICENSE pyproject.toml requirements.txt configs dropclass_jax launch)
supervise='bash launch/supervise.sh'
record=../dropclass_jax.run # of supervise.sh on each worker, its log for one
# shellcheck source=launch/common.sh
source launch/common.sh
# shellcheck source=launch/dry_run.sh
source launch/dry_run.sh

say() { [ -n "$dry_run" ] || echo "tpu_vm: $*" >&2; }

give_up() {
  say "$*"
  exit 1
}

tpus() { execute gcloud compute tpus "$@" "${place[@]}" --quiet; }

# --- the VM ------------------------------------------------------------------

runtime_version() {
  case $1 in
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) fail "no TPU software is known for the accelerator type $1; name it: --version=VERSION" ;;
  esac
}

# One word, empty if there is no VM: of the queued resource until that has one, of the VM then.
state() {
  local request='' vm
  if [ -n "$queued" ]; then
    request=$(ask "$assumed_request" tpus queued-resources list \
      --filter="name ~ /queuedResources/$name\$" --format='value(state.state)') || return
    if [ "$request" != ACTIVE ]; then
      echo "$request"
      return
    fi
  fi
  vm=$(ask "$assumed_vm" tpus tpu-vm list \
    --filter="name ~ /nodes/$name\$" --format='value(state)') || return
  echo "${vm:-$request}"
}

create() {
  local kind=(tpu-vm create "$name" --version="$version")
  if [ -n "$queued" ]; then
    kind=(queued-resources create "$name" --node-id="$name" --runtime-version="$version")
  fi
  if [ -n "$spot" ]; then
    kind+=(--spot)
  fi
  say "creating $name, $type in $zone; this takes minutes"
  if tpus "${kind[@]}" --accelerator-type="$type" 2>"$errors"; then
    assumed_vm=READY assumed_request=ACTIVE
    return
  fi
  cat "$errors" >&2
  # What Google says when others have it all. Waiting mends nothing else, a quota least of all.
  if grep -qi quota "$errors" ||
    ! grep -qiE 'capacity|not enough resources|stockout|internal error' "$errors"; then
    give_up "gcloud cannot create $name: see its message"
  fi
  wait_for "capacity for $type in $zone"
}

delete() {
  say "deleting $name"
  if [ -n "$queued" ]; then
    tpus queued-resources delete "$name" --force
  else
    tpus tpu-vm delete "$name"
  fi
}

wait_for() {
  [ "$waited" -lt $((wait * 60)) ] || give_up "waited $wait minutes for $1 in vain; --wait=MINUTES"
  say "waiting for $1"
  [ -n "$dry_run" ] || sleep "$poll"
  waited=$((waited + poll + 1))
}

# From whatever state to READY.
bring_up() {
  local now
  waited=0
  while :; do
    now=$(state)
    case $now in
      READY) return ;;
      '') create ;;
      PREEMPTED | TERMINATED | FAILED | SUSPENDED)
        delete
        wait_for "the old VM to be gone"
        ;;
      STOPPED) tpus tpu-vm start "$name" ;;
      *) wait_for "$name, which is $now" ;;
    esac
  done
}

# --- its workers -------------------------------------------------------------

# A shell line on worker N or `all`, in the project's folder. A connection to a VM that is gone must
# end, and not wait for ever.
remote() {
  tpus tpu-vm ssh "$name" --worker="$1" --command="cd dropclass_jax && $2" \
    --ssh-flag=-oConnectTimeout=20 --ssh-flag=-oServerAliveInterval=20
}

# The working tree as it is, changes included, and nothing that lies beside the project in it.
deploy() {
  say "copying and installing on every worker"
  execute env COPYFILE_DISABLE=1 tar -czf "$archive" --exclude=__pycache__ "${packed[@]}" &&
    tpus tpu-vm scp "$archive" "$name:" --worker=all &&
    tpus tpu-vm ssh "$name" --worker=all --command="${setup:+(eval $(quoted "$setup")) && }mkdir -p dropclass_jax &&\
 cd dropclass_jax && rm -rf configs dropclass_jax launch && tar -xzf ../dropclass_jax.tar.gz &&\
 PYTHON=uv ACCELERATOR=tpu bash launch/install.sh"
}

start() {
  remote all "$supervise stop $record && $supervise start $record .venv/bin/python\
 -m dropclass_jax.train --distributed $(quoted "$@")"
}

# One word for all workers: none, running, done, mistake, stopped, crashed or unreachable.
run_state() {
  local lines
  lines=$(ask "$assumed_run" remote all "$supervise status $record" 2>"$errors") || lines=''
  if [ -z "$lines" ]; then
    echo unreachable
  elif grep -qx 'exited 2' <<<"$lines"; then
    echo mistake
  elif grep -q '^stopped' <<<"$lines"; then
    echo stopped
  elif grep -qvxE 'running|none|exited 0' <<<"$lines"; then
    echo crashed
  elif grep -qx none <<<"$lines"; then
    echo none
  elif grep -qx running <<<"$lines"; then
    echo running
  else
    echo "done"
  fi
}

last_words() { remote all "tail -n 3 $record/log | sed \"s/^/\$(hostname): /\"" || true; }

# --- the commands ------------------------------------------------------------

up() {
  bring_up
  [ "$(run_state)" != running ] || fail "$name is training; stop it before its code is replaced"
  deploy
}

# Follow the log until the run has ended on all workers, or the VM is gone. Sets `outcome`.
watch() {
  local lost=0 now
  while :; do
    remote 0 "$supervise logs $record" || true # that is ssh's exit code as often as the run's
    outcome=$(run_state)
    case $outcome in
      running) lost=0 ;;
      unreachable) # the VM, or this machine's own connection
        lost=$((lost + 1))
        if [ "$lost" -eq 5 ] || { now=$(state) && [ "$now" != READY ]; }; then
          return
        fi
        ;;
      *) return ;;
    esac
    sleep "$poll"
  done
}

run() {
  local starts=0 outcome
  while :; do
    bring_up
    outcome=$(run_state)
    assumed_run='exited 0'
    if [ "$outcome" = running ]; then
      say "following the run that goes on"
      watch
    elif deploy && start "$@"; then
      watch
    else
      outcome='not started'
    fi
    case $outcome in
      "done") break ;;
      mistake)
        last_words
        say "a mistake in the command, the config or the data: its message is above"
        exit 2
        ;;
      stopped)
        say "stopped; the same command continues"
        exit 143
        ;;
      crashed) last_words ;;
    esac
    starts=$((starts + 1))
    [ "$starts" -le "$retries" ] || give_up "$outcome after $retries more starts; --retries=N"
    say "the run is $outcome; start $starts of $retries more"
    sleep "$poll"
  done
  if [ -n "$then_down" ]; then
    down
  else
    say "done; the VM is still there, and paid for: bash launch/tpu_vm.sh down --name=$name"
  fi
}

down() {
  local now
  now=$(state)
  if [ -n "$now" ]; then
    delete
  else
    say "there is no $name in $zone"
  fi
}

status() {
  local now
  now=$(state)
  say "$name in $zone: ${now:-not there}"
  if [ "$now" = READY ]; then
    remote all "echo \"\$(hostname): \$($supervise status $record)\""
  fi
}

# What can be known before a VM is paid for.
check_arguments() {
  local argument config='' workdir=''
  for argument in "$@"; do
    case $argument in
      --config=*) config=${argument#*=} && config=${config%%:*} ;;
      --workdir=*) workdir=${argument#*=} ;;
    esac
  done
  [ -n "$config" ] && [ -n "$workdir" ] || fail "run needs -- --config=CONFIG --workdir=RUN"
  [ -f "$config" ] || fail "config file $config does not exist"
  case $config in
    configs/*) ;;
    *) fail "$config is not copied to the workers: put it into configs/" ;;
  esac
  case $workdir in
    *://*) fail "--workdir=$workdir: mount the bucket (--setup), and name the path it is mounted at" ;;
    /*) ;;
    *) say "--workdir=$workdir lies on the VM's own disk, and goes with it" ;;
  esac
}

# The value of an option, or else of gcloud's own configuration.
default_to() {
  local value
  value=$(ask "$3" execute gcloud config get-value "$2" 2>/dev/null) && [ -n "$value" ] ||
    fail "no ${2#*/} is set: --$1=..., or gcloud config set $2 ..."
  echo "$value"
}

command=${1:-}
case $command in
  run | up | status | logs | stop | down) shift ;;
  -h | --help) usage launch/tpu_vm.sh && exit ;;
  *) fail "the first argument is run, up, status, logs, stop or down; --help tells more" ;;
esac
name='' type='' zone='' project='' version='' spot='' queued='' setup='' then_down='' dry_run=''
retries=10 wait=1440 poll=30 worker=0
while [ $# -gt 0 ]; do
  case $1 in
    --name=*) name=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --setup=*) setup=${1#*=} ;;
    --retries=*) retries=${1#*=} ;;
    --wait=*) wait=${1#*=} ;;
    --poll=*) poll=${1#*=} ;;
    --worker=*) worker=${1#*=} ;;
    --spot) spot=yes ;;
    --queued) queued=yes ;;
    --then-down) then_down=yes ;;
    --dry-run) dry_run=yes ;;
    --) shift && break ;;
    -h | --help) usage launch/tpu_vm.sh && exit ;;
    *) fail "unknown option $1; those of the training come after --; --help tells more" ;;
  esac
  shift
done
case $name in
  '') fail "--name=NAME is missing; --help tells more" ;;
  [!a-z]* | *[!a-z0-9-]*) fail "--name=$name: small letters, digits and -, a letter first" ;;
esac
case $retries$wait$poll in *[!0-9]*) fail "--retries, --wait and --poll take whole numbers" ;; esac
case $command in
  run | up)
    [ -n "$type" ] || fail "--type=TYPE is missing, as --type=v5litepod-8"
    version=${version:-$(runtime_version "$type")}
    ;;
esac
if [ "$command" = run ]; then
  check_arguments "$@"
elif [ $# -gt 0 ]; then
  fail "$command takes no arguments after --"
fi
errors=/dev/null # gcloud's, of commands that may fail
if [ -z "$dry_run" ]; then
  command -v gcloud >/dev/null || fail "gcloud is missing: https://cloud.google.com/sdk/docs/install"
  mkdir -p build
  errors=build/gcloud.log
fi
project=${project:-$(default_to project core/project PROJECT)}
zone=${zone:-$(default_to zone compute/zone ZONE)}
place=(--zone="$zone" --project="$project")
# What the dry run takes for granted: nothing is there yet, and nothing goes wrong.
assumed_vm='' assumed_request='' assumed_run=none
case $command in status | logs | stop | down) assumed_vm=READY assumed_request=ACTIVE ;; esac

trap 'say "the run goes on: bash launch/tpu_vm.sh logs|stop --name=$name"; exit 130' INT
case $command in
  logs) remote "$worker" "$supervise logs $record" ;;
  stop) remote all "$supervise stop $record" ;;
  *) "$command" "$@" ;;
esac
