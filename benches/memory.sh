#!/bin/sh
# Runs a merge inside a memory cgroup as large as its --max-ram, and checks both promises: the process never holds more
# (VmHWM), and the kernel never has to kill it (page cache counts there too).
#
#   benches/memory.sh BINARY BASE ADAPTER LIMIT OUTPUT    LIMIT as 64M (10^6) or 64MiB (2^20); OUTPUT is removed after
#   benches/memory.sh --self-test                         shows that the confinement kills what is too large
#   benches/memory.sh --run LIMIT COMMAND...              runs any command in it, SHARDFOLD_TEST_LIMIT its limit in bytes
#
# MERGE_FLAGS in the environment has more flags for the merge, with spaces between: MERGE_FLAGS='--keep-quantized'. A binary
# with the feature `testing` also has `--discard`, which writes nothing: for shapes larger than the disk.
# Prints one line of figures. Exit: 0 kept, 1 broken, 2 misuse, 77 skipped (not root, or no memory controller).
set -eu
work= # folder of a run's logs

say() { echo "memory.sh: $*" >&2; }

# 64M, 64MB, 64MiB, 64Mi, 67108864 -> bytes, read as shardfold reads them (the kernel would take M for 2^20).
bytes() {
  number=${1%%[!0-9]*}
  case ${1#"$number"} in
    '' | B) unit=1 ;;
    K | KB) unit=1000 ;;      Ki | KiB) unit=1024 ;;
    M | MB) unit=1000000 ;;   Mi | MiB) unit=1048576 ;;
    G | GB) unit=1000000000 ;; Gi | GiB) unit=1073741824 ;;
    *) unit= ;;
  esac
  [ -n "$number" ] && [ -n "$unit" ] || { say "\`$1\` is no size"; exit 2; }
  echo $((number * unit))
}

# The mount point of a cgroup hierarchy: $1 is the file system type, $2 an option its superblock must have (or nothing).
mount_of() {
  awk -v type="$1" -v option="$2" '{
    for (i = 7; i < NF && $i != "-"; i++) ;
    if ($(i + 1) == type && (option == "" || ("," $NF ",") ~ ("," option ","))) { print $5; exit }
  }' /proc/self/mountinfo
}

# Makes an empty group with a limit of $1 bytes. Sets group, and the names of the files to read afterwards.
make_group() {
  mount=$(mount_of cgroup memory)
  if [ -n "$mount" ]; then
    # v1: a child of our own group, so that limits further up still hold; a container may not see its own path.
    own=$(awk -F: '("," $2 ",") ~ /,memory,/ { print $3 }' /proc/self/cgroup)
    [ -d "$mount$own" ] || own=
    group=$mount${own%/}/shardfold-$$
    limit=memory.limit_in_bytes swap=memory.memsw.limit_in_bytes swap_limit=$1
    peak=memory.max_usage_in_bytes events=memory.oom_control
  else
    # v2: below the root, because a group that holds processes cannot pass the controller on.
    mount=$(mount_of cgroup2 '')
    [ -n "$mount" ] || { say "no cgroup file system: skipped"; exit 77; }
    echo +memory 2>/dev/null > "$mount/cgroup.subtree_control" || :
    group=$mount/shardfold-$$
    limit=memory.max swap=memory.swap.max swap_limit=0
    peak=memory.peak events=memory.events
  fi
  mkdir "$group" || { say "cannot make $group: skipped"; exit 77; }
  trap clean_up EXIT
  trap 'exit 1' INT TERM HUP
  [ -w "$group/$limit" ] || { say "no memory controller in $group: skipped"; exit 77; }
  echo "$1" > "$group/$limit"
  if [ -w "$group/$swap" ]; then echo "$swap_limit" > "$group/$swap"; fi
}

# Removes what we made; a group only goes a moment after its last process has ended.
clean_up() {
  [ -z "$work" ] || rm -rf "$work"
  tries=0
  until rmdir "$group" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ]; then say "left behind: $group"; break; fi
    sleep 0.1
  done
}

# Runs a command in the group; entering it must succeed, for unconfined everything passes. Sets rc, killed, charged.
confined() {
  rc=0
  sh -c 'echo 0 > "$0/cgroup.procs" || exit 125; exec "$@"' "$group" "$@" || rc=$?
  [ "$rc" -ne 125 ] || { say "cannot enter $group"; exit 1; }
  killed=$(awk '$1 == "oom_kill" { print $2 }' "$group/$events")
  charged=$(cat "$group/$peak" 2>/dev/null || echo 0) # memory.peak is there from Linux 5.19
}

self_test() {
  make_group $((64 * 1048576))
  confined head -c 1M /dev/zero > /dev/null
  [ "$rc" -eq 0 ] || { say "self-test: a small program fails too, rc=$rc"; exit 1; }
  # Each byte of a bytearray is touched; `tail` keeps the last line, which never ends.
  if command -v python3 > /dev/null; then
    confined python3 -c 'b = bytearray(200 << 20)'
  else
    confined sh -c 'head -c 200M /dev/zero | tail > /dev/null'
  fi
  [ "$rc" -ne 0 ] && [ "${killed:-0}" -gt 0 ] || { say "self-test: 200 MiB survive in 64 MiB, rc=$rc"; exit 1; }
  echo "self-test: 200 MiB were killed in 64 MiB, rc=$rc oom_kill=$killed peak=$charged"
}

run() {
  SHARDFOLD_TEST_LIMIT=$(bytes "$1")
  export SHARDFOLD_TEST_LIMIT
  shift
  make_group "$SHARDFOLD_TEST_LIMIT"
  confined "$@"
  return "$rc"
}

# VmHWM in bytes: the larger of what the tool says (--json, `peak_rss`) and what /usr/bin/time saw, if it is there.
resident() {
  told=$(sed -n 's/.*"peak_rss"[^0-9]*\([0-9][0-9]*\).*/\1/p' "$work/json" | tail -n 1)
  seen=$(sed -n 's/^peak_kib //p' "$work/time" 2>/dev/null | tail -n 1)
  seen=$((${seen:-0} * 1024))
  if [ "${told:-0}" -gt "$seen" ]; then echo "$told"; else echo "$seen"; fi
}

merge() {
  binary=$1 base=$2 adapter=$3 budget=$(bytes "$4") output=$5
  [ ! -e "$output" ] || { say "$output exists"; exit 2; }
  make_group "$budget"
  work=$(mktemp -d)
  set -- "$binary" merge --base "$base" --adapter "$adapter" --output "$output" --max-ram "$budget" --json
  # shellcheck disable=SC2086 # words are meant to be split
  set -- "$@" ${MERGE_FLAGS-}
  if [ -x /usr/bin/time ]; then set -- /usr/bin/time -o "$work/time" -f 'peak_kib %M' "$@"; fi
  confined "$@" > "$work/json" 2> "$work/log"
  resident=$(resident)
  rm -rf "$output" "$output.partial"
  verdict=kept
  [ "$rc" -eq 0 ] && [ "${killed:-0}" -eq 0 ] && [ "$resident" -gt 0 ] && [ "$resident" -le "$budget" ] || verdict=BROKEN
  echo "$verdict: max-ram=$budget vmhwm=$resident cgroup_peak=$charged oom_kill=${killed:-?} rc=$rc"
  if [ "$rc" -ne 0 ]; then tail -n 5 "$work/log" >&2; fi
  [ "$verdict" = kept ]
}

case ${1-} in
  --self-test) [ $# -eq 1 ] || { say "--self-test takes nothing else"; exit 2; } ;;
  --run) [ $# -ge 3 ] || { say "--run takes a limit and a command"; exit 2; } ;;
  *) [ $# -eq 5 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; } ;;
esac
[ "$(id -u)" -eq 0 ] || { say "not root: skipped"; exit 77; }
case $1 in
  --self-test) self_test ;;
  --run) shift; run "$@" ;;
  *) merge "$@" ;;
esac
