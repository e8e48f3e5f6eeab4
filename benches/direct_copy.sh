#!/bin/sh
# Copies a folder of large files past the page cache, four parts of a file at once: what the disk can do for anybody.
#
#   benches/direct_copy.sh FROM TO    TO is made; Linux, GNU dd
set -eu
parts=4
block=$((8 << 20))

mkdir "$2"
for file in "$1"/*; do
  bytes=$(stat -c %s "$file")
  # Parts are whole blocks; dd writes what is left of the last one through the cache.
  part=$(((bytes / parts / block + 1) * block))
  from=0
  : > "$2/${file##*/}"
  while [ $from -lt "$bytes" ]; do
    dd if="$file" of="$2/${file##*/}" bs=$block skip=$from seek=$from count=$part conv=notrunc status=none \
      iflag=direct,skip_bytes,count_bytes oflag=direct,seek_bytes &
    from=$((from + part))
  done
  wait
done
