# What tests/deploy/guest.xml asks about: after the agent has started, so that what is mounted
# later counts as well.
mkdir -p /home/operator /srv/readonly /srv/guests
chmod 700 /home/operator
qemu-img create -q -f qcow2 /var/lib/libvirt/images/qemus.qcow2 8M
chown libvirt-qemu /var/lib/libvirt/images/qemus.qcow2
chmod 600 /var/lib/libvirt/images/qemus.qcow2
truncate -s 1M /home/operator/roots.raw /tmp/all.raw /srv/guests/v1 /var/lib/libvirt/images/luks.img
chmod 666 /tmp/all.raw
mount -t tmpfs tmpfs /srv/readonly
qemu-img create -q -f qcow2 /srv/readonly/a.qcow2 8M
chmod 666 /srv/readonly/a.qcow2
mount -o remount,ro /srv/readonly
mknod -m 660 /dev/blockdisk b 7 0
virsh -q pool-define-as guests dir --target /srv/guests
virsh -q pool-start guests
cat >/tmp/secret.xml <<END
<secret ephemeral='no' private='no'><uuid>0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f</uuid></secret>
END
virsh -q secret-define /tmp/secret.xml
printf pw >/tmp/pw
virsh -q secret-set-value 0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f --file /tmp/pw --plain
qemu-img create -q -f qcow2 /var/lib/libvirt/images/run.qcow2 8M
virsh -q create /packages/running.xml
