# The first thing that runs in a virtual machine, as root: makes the machine's file system writable, and starts the servant on it.
#
#     stage.sh MODULES KMOD COMMAND...      MODULES/lib/modules: the kernel's; KMOD: the program
#
# virtme-ng has mounted the machine's file system read-only, and without a cache.  A second export of the same, cached (nobody
# else's changes are waited for: a tenth of the time), becomes the lower half of an overlay, whose upper half is memory.  That
# becomes the root, also for the kernel's own calls of modprobe.  Whatever a test does to files is gone with the machine.
set -euo pipefail
modules=$1 kmod=$2 release=$(uname -r)
shift 2

mount -t tmpfs -o size=80% stage /mnt
cd /mnt
mkdir lower upper work root
ln -s "$kmod" modprobe
./modprobe -d "$modules" overlay
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose machine lower
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay root
for below in proc sys dev run; do
    mount --rbind "/$below" "root/$below"
done
cd root
mkdir -p .before usr/lib/modules
pivot_root . .before
umount -l /.before
rmdir /.before

# What kmod's package and udev would have done.
[ -e "/lib/modules/$release" ] || ln -s "$modules/lib/modules/$release" "/lib/modules/$release"
[ -e /sbin/modprobe ] || ln -s "$kmod" /sbin/modprobe
mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
mount -t bpf bpf /sys/fs/bpf
ulimit -n 524288

cd /
exec "$@"
