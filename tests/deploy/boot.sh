#!/bin/sh
# Turns new namespaces into a machine whose first process is its own systemd.
#
#   boot.sh RUN LOWER NAME
#
# RUN is the machine's directory: `pid` is written there as soon as there is anything to end. LOWER
# is the list of layers as overlayfs takes it. Every mount is made in its own mount namespace.
set -eu
run=$1 lower=$2 name=$3

read -r pid rest </proc/self/stat
echo "$pid" >"$run/pid.new"
mv "$run/pid.new" "$run/pid"

hostname "$name"
ip link set lo up
top=$run/top new=$run/root
mkdir -p "$top" "$new"
mount -t tmpfs -o mode=755,size=2g top "$top"
mkdir "$top/upper" "$top/work"
mount -t overlay host -o "lowerdir=$lower,upperdir=$top/upper,workdir=$top/work" "$new"
echo "$name" >"$new/etc/hostname"
printf '127.0.0.1 localhost %s\n' "$name" >"$new/etc/hosts"
: >"$new/etc/resolv.conf"
mkdir -p "$new/packages"
mount --bind "$run/packages" "$new/packages"

mount -t proc -o nosuid,nodev,noexec proc "$new/proc"
mount -t sysfs -o nosuid,nodev,noexec sys "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev run "$new/run"
mount -t tmpfs -o mode=755,nosuid dev "$new/dev"
mkdir "$new/dev/net" "$new/dev/pts" "$new/dev/shm"
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
if [ -e /dev/kvm ]; then
	node kvm 660 10 232
	chroot "$new" chgrp kvm /dev/kvm
fi

mkdir "$new/.machine"
cd "$new"
pivot_root . .machine
cd /
umount -l /.machine
rmdir /.machine
# As systemd does where it is no container's: what is mounted later is seen by units as well.
mount --make-rshared /
# "container" keeps systemd from what a machine of its own would need: devices, modules, consoles.
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=multi-user.target
