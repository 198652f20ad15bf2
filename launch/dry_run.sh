# Sourced: commands that are run or, if dry_run is not empty, only printed.
# shellcheck shell=bash
exec 3>&1 # what is printed gets out of $(...) here

escape="s/'/'\\\\''/g" # not within $(...): the bash of macOS would count the quotes

# One line that a shell reads back as the same words.
quoted() {
  local word line=''
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+-]*)
        word="'$(printf '%s' "$word" | sed "$escape")'"
        ;;
    esac
    line="$line${line:+ }$word"
  done
  printf '%s\n' "$line"
}

# Every command that does or asks anything goes through here.
execute() {
  if [ -n "$dry_run" ]; then
    quoted "$@" >&3
  else
    "$@" </dev/null 3>&-
  fi
}

# The output of a command that `execute` runs; in the dry run the answer that is given here.
ask() {
  local answer=$1
  shift
  "$@" || return
  [ -z "$dry_run" ] || echo "$answer"
}
