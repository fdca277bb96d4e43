"""Every pair of hosts, with a guest that nothing stands against."""

from __future__ import annotations

from dataclasses import replace

from tests.lab import faults
from tests.lab.guests import Nic
from tests.lab.scenarios.pieces import DISK, NAMED, VIDEO, VNC
from tests.lab.scenarios.scenario import Scenario, guest, migrates

SCENARIOS: tuple[Scenario, ...] = (
    migrates("plain", guest=guest(disks=(DISK,), nics=(Nic(bridge="br0"),))),
    migrates(
        "plain-newer", guest=guest(disks=(DISK,), nics=(Nic(network="lan"),)), destination="h3"
    ),
    migrates(
        "plain-older",
        guest=guest(cpu=NAMED, disks=(DISK,), nics=(Nic(bridge="br0"),)),
        source="h3",
    ),
    migrates("plain-lesser", guest=guest(cpu=NAMED, disks=(DISK,)), destination="h4"),
    migrates(
        "plain-other-user",
        guest=guest(disks=(DISK,), nics=(Nic(bridge="br0"),)),
        destination="h5",
        then_on_source=(
            faults.permissions(DISK.path, mode="660", owner="libvirt-qemu:libvirt-qemu"),
        ),
    ),
    # The way back: what a lesser CPU can do, a greater one can.
    migrates(
        "plain-from-lesser",
        guest=guest(disks=(DISK,)),
        source="h4",
        destination="h1",
        needs=("kvm",),
    ),
    migrates("plain-tcg", guest=guest(accelerator="tcg", cpu=NAMED)),
    migrates("plain-i440fx", guest=guest(machine="pc-i440fx-7.2", disks=(DISK,))),
    migrates("no-disk-no-unsafe", options=()),
    migrates(
        "many-devices",
        guest=guest(
            top="<iothreads>2</iothreads>",
            disks=(replace(DISK, driver=" iothread='1' io='native'"),),
            nics=(Nic(network="lan", model="e1000e"), Nic(bridge="br0", model="rtl8139")),
            devices="<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
            "<watchdog model='i6300esb' action='reset'/><serial type='pty'/><console type='pty'/>"
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            "<input type='tablet' bus='virtio'/>"
            + VNC.format(port=-1, auto="yes", address="127.0.0.1")
            + VIDEO.format(model="vga"),
        ),
    ),
)
