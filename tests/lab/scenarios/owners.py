"""Whose the disks are: libvirt gives them to QEMU's user, and may take them back at the wrong time.

Where the file system is not one that libvirt knows to be shared, a migration that fails, and so a
rehearsal that does not look to it, leaves the running guest's disk to root.
"""

from __future__ import annotations

from tests.lab import faults
from tests.lab.guests import Nic
from tests.lab.scenarios.pieces import DISK
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

USER = faults.qemu_user("libvirt-qemu")
NOTING = faults.qemu_user("libvirt-qemu", remember=1)

SCENARIOS: tuple[Scenario, ...] = (
    migrates("owner-given", guest=guest(disks=(DISK,)), **both(USER)),
    migrates("owner-given-and-noted", guest=guest(disks=(DISK,)), **both(NOTING)),
    migrates("owner-given-there-only", guest=guest(disks=(DISK,)), on_destination=(USER,)),
    # Refused after the disks were given away: they have to be as before.
    fails(
        "owner-given-bridge-absent",
        "nics.bridge-absent",
        guest=guest(disks=(DISK,), nics=(Nic(bridge="br9"),)),
        on_source=(USER, faults.bridge("br9")),
        on_destination=(USER,),
        says="Cannot get interface MTU on 'br9': No such device",
    ),
)
