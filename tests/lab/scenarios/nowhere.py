"""Guests that cannot run on any host of the lab: asked about by their XML, then started there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.lab import faults
from tests.lab.scenarios.pieces import NAMED
from tests.lab.scenarios.scenario import Scenario, fails, guest, migrates

AT = "<address domain='0' bus='0x7f' slot='0x1f' function='0'/>"
PCI = f"<hostdev mode='subsystem' type='pci' managed='no'><source>{AT}</source></hostdev>"
NO_USB = "<controller type='usb' model='none'/>"  # as guests of the lab are
USB = (
    "<hostdev mode='subsystem' type='usb' managed='no'>"
    "<source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>"
)
MEDIATED = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
    "<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>"
)
RBD = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
    "<source protocol='rbd' name='pool/image'><host name='10.78.0.1' port='6789'/></source>"
    "<target dev='vda' bus='virtio'/></disk>"
)
LABEL = (
    "<seclabel type='static' model='selinux' relabel='no'>"
    "<label>system_u:system_r:svirt_t:s0:c1,c2</label></seclabel>"
)
VSOCK = "<vsock model='virtio'><cid auto='yes'/></vsock>"
SHARED_MEMORY = "<shmem name='@name'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
MEMORY_GOES = faults.shell("shared memory", ":", back="rm -f /dev/shm/@name")


def refused(id: str, *checks: str, says: str, **parts: Any) -> Scenario:  # noqa: A002
    """A start that fails; without a migration there are no options to speak of."""
    return replace(fails(id, *checks, says=says, options=(), **parts), runs="nowhere")


def taken(id: str, **parts: Any) -> Scenario:  # noqa: A002
    return replace(migrates(id, options=(), **parts), runs="nowhere")


SCENARIOS: tuple[Scenario, ...] = (
    refused(
        "new-pci-absent",
        "hostdevs.pci-absent",
        "hostdevs.vfio-off",
        guest=guest(devices=PCI),
        says="PCI",
    ),
    refused(
        "new-usb-absent",
        "hostdevs.usb-absent",
        guest=guest(devices=USB),
        rewrite=((NO_USB, ""),),
        says="",
    ),
    refused(
        "new-mdev-absent",
        "hostdevs.mdev-absent",
        "hostdevs.vfio-off",
        guest=guest(devices=MEDIATED),
        says="VFIO",
    ),
    refused(
        "new-too-many-vcpus",
        "machine.too-many-vcpus",
        guest=guest(vcpus=300, cpu=NAMED),
        says="Maximum CPUs greater than specified machine type limit",
    ),
    refused("new-rbd", "disks.no-driver", guest=guest(devices=RBD), says="rbd"),
    refused(
        "new-label-of-another-driver",
        "devices.no-security-model",
        guest=guest(top=LABEL),
        says="Security driver model 'selinux' is not available",
    ),
    refused(
        "new-too-much-memory",
        "memory.more-than-host",
        "memory.cannot-be-mapped",
        guest=guest(memory_mib=1 << 20),
        says="Cannot allocate memory",
    ),
    refused("new-vsock", "devices.no-vsock", guest=guest(devices=VSOCK), says="vhost-vsock"),
    # It starts; it would not migrate from there.
    taken("new-shared-memory", guest=guest(devices=SHARED_MEMORY), on_destination=(MEMORY_GOES,)),
    taken("new-plain"),
)
