#!/bin/sh
# Makes the archive of a release: a static binary, completions, manual pages, licenses, and a list of what it was built from.
#
#   packaging/archive.sh TARGET OUT      e.g. x86_64-unknown-linux-musl dist
#
# The archive is the same for the same commit and toolchain: names in order, one owner, the time of the commit.
set -eu
cd "$(dirname "$0")/.."

TARGET=$1
OUT=$2
CARGO=${CARGO:-cargo}
PYTHON=${PYTHON:-python3}
FEATURES=${FEATURES:-cloud}
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
NAME=shardfold-$VERSION-$TARGET
BUILT=${CARGO_TARGET_DIR:-target}
TREE=$BUILT/archive/$NAME

# Less is inlined than for speed alone, which no loop of a merge needs: its own are inlined always. Loops of a few rounds alone are
# unrolled. Functions of equal code are one, and what only unwinding reads is left out, as it does not unwind. The linker is the one
# that comes with Rust.
LINKER=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/gcc-ld
SMALL="-C llvm-args=-inline-threshold=0 -C llvm-args=-inlinehint-threshold=40 -C llvm-args=-unroll-threshold=150 -C llvm-args=-unroll-runtime=false"
for ARG in "-B$LINKER" -fuse-ld=lld -Wl,--icf=all -Wl,-O2 -Wl,-z,pack-relative-relocs -Wl,--no-eh-frame-hdr \
  -Wl,-T,packaging/no-unwinding.ld; do
  SMALL="$SMALL -C link-arg=$ARG"
done
FOR=$(echo "$TARGET" | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${FOR}_RUSTFLAGS=$SMALL"

$CARGO build --profile dist --locked --bin shardfold --target "$TARGET" --features "$FEATURES"
rm -rf "$TREE"
mkdir -p "$TREE/completions" "$OUT"
cp "$BUILT/$TARGET/dist/shardfold" README.md CHANGELOG.md LICENSE packaging/SKILL.md packaging/Containerfile "$TREE/"
for SHELL_NAME in bash zsh fish; do
  "$TREE/shardfold" completions $SHELL_NAME > "$TREE/completions/shardfold.$SHELL_NAME"
done
$CARGO run --quiet --locked --features man --bin man -- "$TREE/man"
$PYTHON packaging/dependencies.py "$TARGET" "$FEATURES" "$TREE"
TIME=$(git log -1 --format=%ct 2> /dev/null || date +%s)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$TIME" -C "$(dirname "$TREE")" -cf - "$NAME" |
  gzip -n9 > "$OUT/$NAME.tar.gz"
ls -l "$OUT/$NAME.tar.gz"
