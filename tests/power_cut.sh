#!/bin/bash
# Cuts the power of a merge at POINTS moments, and runs it again: OUTPUT must be absent or whole after each cut, the second
# run must finish, and its bytes must be those of an undisturbed run.
#
#   tests/power_cut.sh BINARY BASE ADAPTER [POINTS]    BINARY with the feature `testing`: it makes milestones close together
#
# A virtual machine (QEMU without KVM, Debian's cloud kernel) writes to a disk behind device mapper. The cut makes that drop
# every write from then on (`flakey`, `drop_writes`), kills the merge, and mounts the disk below anew: what was not synced
# is gone. Root; Debian's packages qemu-system-x86 linux-image-cloud-amd64 busybox-static cpio dmsetup e2fsprogs kmod.
# Exit: 0 all held, 1 something did not, 77 skipped because a tool is missing.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '5,6p' "$0" >&2; exit 2; }
binary=$1 base=$2 adapter=$3 points=${4:-20}
for tool in qemu-system-x86_64 dmsetup mkfs.ext4 cpio modprobe /bin/busybox; do
  command -v "$tool" > /dev/null || { echo "skipped: no $tool"; exit 77; }
done
kernel=$(ls /lib/modules 2> /dev/null | grep cloud-amd64 | tail -1 || true)
[ -n "$kernel" ] || { echo "skipped: no cloud kernel"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,disk,inputs,lib/modules} "$work/inputs"

# Programs with the libraries they need.
cp /bin/busybox "$root/bin/"
for name in $(/bin/busybox --list); do [ -e "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"; done
for program in "$(command -v dmsetup)" "$binary"; do
  cp --remove-destination "$program" "$root/bin/"
  for library in $(ldd "$program" 2> /dev/null | grep -o '/[^ ]*'); do
    mkdir -p "$root$(dirname "$library")"
    cp -n "$library" "$root$library" || true
  done
done
mv "$root/bin/$(basename "$binary")" "$root/bin/merge-under-test"

# Drivers in the order they need each other.
for driver in virtio_pci virtio_blk dm-flakey ext4; do
  modprobe -n --show-depends -S "$kernel" "$driver" 2> /dev/null | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r module; do
  cp "$module" "$root/lib/modules/"
  basename "$module" >> "$root/lib/modules/order"
done

# The inputs are a disk that nobody writes to.
cp -r "$base" "$work/inputs/base"
cp -r "$adapter" "$work/inputs/adapter"
truncate -s $(($(du -sm "$work/inputs" | cut -f1) + 64))M "$work/inputs.img"
mkfs.ext4 -q -F -d "$work/inputs" "$work/inputs.img"
truncate -s 256M "$work/disk.img"

cat > "$root/test.sh" << 'T'
sectors=$(cat /sys/block/vda/size)
flags="--quiet --base /inputs/base --adapter /inputs/adapter --output /disk/out --max-ram 64M --stride 128K"
merge() { merge-under-test merge $flags; }
sums() { (cd /disk/out && find . -type f ! -name shardfold.json | sort | xargs sha256sum); }
table() { # of the device that the disk is seen through, changed without a sync
  dmsetup reload --noudevsync --noudevrules cut --table "0 $sectors $1"
  dmsetup suspend --noudevsync --nolockfs --noflush cut
  dmsetup resume --noudevsync --noudevrules cut
}
fail() { echo "FAILED: $*"; ls -lA /disk /disk/out.partial 2> /dev/null; exit 1; }
seconds() { cut -d' ' -f1 /proc/uptime; }

mount -t ext4 -o ro /dev/vdb /inputs || exit 1
mount -t ext4 /dev/vda /disk || exit 1
began=$(seconds)
merge || fail "an undisturbed merge"
took=$(echo "$(seconds) $began" | awk '{ print $1 - $2 }')
sums > /sums
rm -rf /disk/out
umount /disk
echo "undisturbed: $took s, $(wc -l < /sums) files beside the record"

point=0 absent=0 whole=0 kept=0
while [ "$point" -lt "$POINTS" ]; do
  point=$((point + 1))
  dmsetup create --noudevsync --noudevrules cut --table "0 $sectors linear /dev/vda 0"
  mount -t ext4 /dev/dm-0 /disk || fail "mounting before point $point"
  merge-under-test merge $flags > /dev/null 2>&1 &
  usleep "$(echo "$took $point $POINTS" | awk '{ printf "%d", $1 * 1e6 * $2 / ($3 + 1) }')"
  table "flakey /dev/vda 0 0 3600 1 drop_writes"
  kill -9 $! 2> /dev/null
  wait 2> /dev/null
  umount /disk || fail "unmounting after point $point"
  dmsetup remove --noudevsync cut || fail "removing the mapping after point $point"
  mount -t ext4 /dev/vda /disk || fail "mounting after point $point"
  if [ -e /disk/out ]; then
    sums | cmp -s - /sums || fail "point $point left a part of OUTPUT"
    [ -e /disk/out/shardfold.json ] || fail "point $point left OUTPUT without its record"
    state=whole whole=$((whole + 1))
  else
    state=absent absent=$((absent + 1))
  fi
  lines=$(cat /disk/out.partial/shardfold.journal 2> /dev/null | wc -l)
  [ "$lines" -gt 2 ] && kept=$((kept + 1))
  merge || fail "the run after point $point"
  sums | cmp -s - /sums || fail "the run after point $point made other bytes"
  [ -e /disk/out.partial ] && fail "the run after point $point left OUTPUT.partial"
  echo "point $point: OUTPUT $state, $lines lines of journal, finished to the same bytes"
  rm -rf /disk/out
  umount /disk
done
echo "$POINTS power cuts: OUTPUT absent after $absent and whole after $whole, work was kept after $kept; all finished to the same bytes"
T
cat > "$root/init" << 'I'
#!/bin/sh
export PATH=/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for module in $(cat /lib/modules/order); do insmod "/lib/modules/$module"; done
sh /test.sh; echo "exit $?"; poweroff -f
I
sed -i "s/\$POINTS/$points/g" "$root/test.sh"
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/initrd.gz"
mkfs.ext4 -q -F "$work/disk.img"
timeout "${TIMEOUT:-1800}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -M q35 -m 1024 -smp 2 -nographic -no-reboot \
  -net none -kernel "/boot/vmlinuz-$kernel" -initrd "$work/initrd.gz" -append "console=ttyS0 quiet panic=-1" \
  -drive "file=$work/disk.img,if=virtio,format=raw,cache=unsafe" \
  -drive "file=$work/inputs.img,if=virtio,format=raw,readonly=on" > "$work/log" 2>&1 < /dev/null || true
tr -d '\r' < "$work/log" | sed 's/^.*\x1b\[2J//' | grep -aE '^(undisturbed|point|FAILED|[0-9]+ power|exit|error)' || tail -20 "$work/log"
grep -aq '^exit 0' "$work/log"
