#!/bin/sh
# One merge in N parts that run side by side, and then are joined: here on one host, as a template for any scheduler.
#
#   docs/recipes/many-hosts.sh N OUTPUT MERGE-FLAGS...
#   docs/recipes/many-hosts.sh 4 merged --base llama-70b --adapter style-lora --max-ram 8G
#
# On several hosts, run the line of each part on its own host, with paths that all of them see. A part that fails is run again
# by running the script again: what is made is not made twice.
set -eu

parts=$1 output=$2
shift 2
shardfold=${SHARDFOLD:-shardfold}

pids=
part=0
while [ "$part" -lt "$parts" ]; do
    "$shardfold" merge "$@" --output "$output" --part "$part/$parts" &
    pids="$pids $!"
    part=$((part + 1))
done
failed=0
for pid in $pids; do
    wait "$pid" || failed=$?
done
[ "$failed" -eq 0 ] || exit "$failed"
exec "$shardfold" finish "$output"
