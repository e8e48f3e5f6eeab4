#!/bin/sh
# Unpacks a release archive into an empty root, and merges there with its binary alone: no shell, no libraries, no home.
#
#   tests/bare.sh ARCHIVE DEMO
#
# Without root it runs in a user namespace; where neither may be had, the binary is started as it is, which is said.
set -eu

ARCHIVE=$1
DEMO=$2
ROOT=$(mktemp -d)
trap 'rm -rf "$ROOT"' EXIT
tar -xzf "$ARCHIVE" -C "$ROOT"
mv "$ROOT"/shardfold-* "$ROOT/release"
for PART in shardfold completions/shardfold.bash completions/shardfold.zsh completions/shardfold.fish man/shardfold-merge.1 \
  LICENSE THIRD-PARTY-LICENSES.txt bom.cdx.json README.md SKILL.md Containerfile; do
  [ -s "$ROOT/release/$PART" ] || { echo "the archive has no $PART"; exit 1; }
done
BYTES=$(stat -c %s "$ROOT/release/shardfold")
echo "shardfold: $BYTES bytes"
[ "$BYTES" -le 8000000 ] || { echo "the binary has more than 8 MB"; exit 1; }
ldd "$ROOT/release/shardfold" 2>&1 | grep -qE 'statically linked|not a dynamic executable'

mkdir "$ROOT/bare"
cp "$ROOT/release/shardfold" "$ROOT/bare/"
cp -R "$DEMO/base" "$DEMO/adapter" "$ROOT/bare/"
if [ "$(id -u)" -eq 0 ]; then
  enter() { chroot "$ROOT/bare" "$@"; }
elif unshare -r true 2> /dev/null; then
  enter() { unshare -r chroot "$ROOT/bare" "$@"; }
else
  echo "not in an empty root: neither root nor a user namespace"
  enter() { (cd "$ROOT/bare" && shift && ./shardfold "$@"); }
fi
enter /shardfold --version
enter /shardfold merge --base base --adapter adapter --output merged --max-ram 64M
enter /shardfold verify merged --hashes-only
