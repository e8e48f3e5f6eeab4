#!/bin/sh
# Merges into a base that shardfold made, on a file system that shares blocks (XFS in a loop mount), against a copy of it:
# parts that the adapter does not change are neither read nor written.
#
#   benches/shared.sh BINARY BASE ADAPTER WORK [PAIRS]    WORK needs 4 times the base; an image is made in it and removed after
#
# Each pair is `cp -r --reflink=never` and the merge, each from a cold cache until `sync -f` returns, the order changing. Prints
# one line a pair, and the median of merge/copy. The results are checked by their hashes. Exit: 0 done, 1 failed, 2 misuse,
# 77 skipped (not root, or no XFS).
set -eu

say() { echo "shared.sh: $*" >&2; }
[ $# -ge 4 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
binary=$1 base=$2 adapter=$3 work=$4 pairs=${5:-7}
[ "$(id -u)" -eq 0 ] && command -v mkfs.xfs > /dev/null || { say "needs root and mkfs.xfs: skipped"; exit 77; }

mkdir -p "$work"
image=$work/shared.xfs mount=$work/shared
clean_up() {
  umount "$mount" 2> /dev/null || :
  rm -f "$image"
  rmdir "$mount" 2> /dev/null || :
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

bytes=$(du -sb "$base" | cut -f1)
truncate -s $((bytes * 7 / 2 + (1 << 30))) "$image"
mkfs.xfs -q -m reflink=1 "$image"
mkdir -p "$mount"
mount -o loop "$image" "$mount" || { say "cannot mount XFS: skipped"; exit 77; }
cp -r "$adapter" "$mount/adapter"

merge() { "$binary" merge --base "$1" --adapter "$mount/adapter" --output "$2" --max-ram 256M --json "$3" "$4"; }
# The base of the measurement is a result of shardfold.
merge "$base" "$mount/base" --unchanged copy > /dev/null 2>&1

cold() { sync; echo 3 > /proc/sys/vm/drop_caches; }
now() { date +%s.%N; }
copy_once() {
  cold; from=$(now); cp -r --reflink=never "$mount/base" "$mount/copy"; sync -f "$mount"; copy=$(echo "$(now) - $from" | bc)
  rm -rf "$mount/copy"
}
merge_once() {
  cold; from=$(now); merge "$mount/base" "$mount/merged" --unchanged auto > "$work/json" 2> /dev/null; sync -f "$mount"
  merged=$(echo "$(now) - $from" | bc)
  shared=$(sed -n 's/.*"shared_bytes": *\([0-9]*\).*/\1/p' "$work/json")
  read=$(sed -n 's/.*"read_bytes": *\([0-9]*\).*/\1/p' "$work/json")
  [ "$pair" -gt 1 ] || "$binary" verify --quiet --hashes-only "$mount/merged"
  rm -rf "$mount/merged" "$work/json"
}

pair=1 ratios=
while [ "$pair" -le "$pairs" ]; do
  if [ $((pair % 2)) -eq 1 ]; then copy_once; merge_once; else merge_once; copy_once; fi
  ratio=$(echo "scale=4; $merged / $copy" | bc)
  echo "pair $pair: copy $copy s, merge $merged s, ratio 0$ratio; $bytes bytes, $shared shared, $read read"
  ratios="$ratios $ratio" pair=$((pair + 1))
done
echo "median ratio: 0$(printf '%s\n' $ratios | sort -n | sed -n "$(((pairs + 1) / 2))p")"
