#!/bin/sh
# Turns new namespaces into a host: runs as their first process, and ends as the host's init.
#
#   boot.sh RUN LOWER OPTIONS...
#
# RUN is the host's directory: etc/ is laid over its root, images/ and shared become its storage;
# `pid` is written there as soon as there is anything to end, `booted` when the root is in place.
# LOWER is the list of layers as overlayfs takes it. OPTIONS: no-hugetlbfs, no-kvm.
#
# Every mount is made in the host's own mount namespace, so all of them go when its processes go.
set -eu

run=$1 lower=$2
shift 2
has() { case " $options " in *" $1 "*) return 0 ;; esac; return 1; }
options="$*"

# /proc is still the machine's, so this is our process id as the machine sees it.
read -r pid rest </proc/self/stat
echo "$pid" >"$run/pid.new"
mv "$run/pid.new" "$run/pid"

hostname "$(cat "$run/etc/hostname")"

top=$run/top new=$run/root
mkdir -p "$top" "$new"
mount -t tmpfs -o mode=755,size=2g top "$top"
mkdir "$top/upper" "$top/work"
mount -t overlay host -o "lowerdir=$lower,upperdir=$top/upper,workdir=$top/work" "$new"

cp -a "$run/etc/." "$new/etc/"
mount -t proc -o nosuid,nodev,noexec proc "$new/proc"
mount -t sysfs -o nosuid,nodev,noexec sys "$new/sys"
mount -t tmpfs -o mode=755,nosuid,nodev run "$new/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$new/tmp"
mkdir -p "$new/run/lock" "$new/srv/shared"
chmod 755 "$new/srv" "$new/srv/shared"
mount --bind "$run/images" "$new/var/lib/libvirt/images"
mount --bind "$run/shared" "$new/srv/shared"

# Devices of the host's own, so that one host can lack what the others have.
mount -t tmpfs -o mode=755,nosuid dev "$new/dev"
mkdir "$new/dev/net" "$new/dev/pts" "$new/dev/shm" "$new/dev/hugepages" "$new/dev/mapper"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 pts "$new/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$new/dev/shm"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
node() { mknod -m "$2" "$new/dev/$1" c "$3" "$4"; }
node null 666 1 3
node zero 666 1 5
node full 666 1 7
node random 666 1 8
node urandom 666 1 9
node tty 666 5 0
node net/tun 666 10 200
node fuse 666 10 229
if [ -e /dev/kvm ] && ! has no-kvm; then
	node kvm 660 10 232
	chroot "$new" chgrp kvm /dev/kvm
fi
if [ -e /dev/vhost-net ]; then node vhost-net 660 10 238; fi
if ! has no-hugetlbfs && grep -qw hugetlbfs /proc/filesystems; then
	mount -t hugetlbfs -o pagesize=2M hugetlbfs "$new/dev/hugepages"
fi

mkdir "$new/.machine"
cd "$new"
pivot_root . .machine
cd /
umount -l /.machine
rmdir /.machine
# The machine is out of sight now, so whoever waits learns it from inside.
: >/run/booted

# A first process has one duty: to take in every orphan at once. A QEMU that nobody reaps still
# looks alive to libvirt, which then waits for it for 40 s at each migration and each destroy.
exec /usr/bin/python3 -I -S -c '
import os, time
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.02)
'
