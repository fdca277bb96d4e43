"""Elements that an older libvirt does not know."""

from __future__ import annotations

from dataclasses import replace

from tests.lab import faults
from tests.lab.scenarios.pieces import DISK, NAMED
from tests.lab.scenarios.scenario import Scenario, fails, guest, migrates

SCENARIOS: tuple[Scenario, ...] = (
    # An attribute that the older libvirt does not know and drops; QEMU does not need it to agree.
    migrates(
        "older-drops-discard-no-unref",
        guest=guest(
            cpu=NAMED,
            disks=(replace(DISK, driver=" discard='unmap' discard_no_unref='on'"),),
        ),
        source="h3",
    ),
    fails(
        "older-drops-pstore",
        "versions.device-dropped",
        guest=guest(
            cpu=NAMED,
            devices="<pstore backend='acpi-erst'><path>/var/lib/libvirt/images/@name.erst</path>"
            "<size unit='KiB'>64</size></pstore>",
        ),
        source="h3",
        on_source=(
            faults.shell("its store", ":", back="rm -f /var/lib/libvirt/images/@name.erst"),
        ),
        says="",
    ),
    fails(
        "older-drops-ps2",
        "versions.feature-unknown",
        guest=guest(cpu=NAMED, features="<acpi/><ps2 state='off'/>"),
        source="h3",
        says="unexpected feature 'ps2'",
    ),
    migrates(
        "older-knows-queues",
        guest=guest(
            cpu=NAMED,
            top="<iothreads>1</iothreads>",
            disks=(replace(DISK, driver=" iothread='1' queues='2'"),),
        ),
        source="h3",
    ),
    # Known since libvirt 10.0: which queue goes to which thread is the host's business alone.
    migrates(
        "older-drops-iothread-mapping",
        guest=guest(
            cpu=NAMED,
            top="<iothreads>2</iothreads>",
            disks=(
                replace(
                    DISK,
                    driver=" queues='2'",
                    inside_driver="<iothreads><iothread id='1'/><iothread id='2'/></iothreads>",
                ),
            ),
        ),
        source="h3",
    ),
    fails(
        "older-refuses-hyperv",
        "definition.word-unknown",
        guest=guest(
            cpu=NAMED,
            features="<acpi/><hyperv mode='custom'><xmm_input state='on'/></hyperv>",
        ),
        source="h3",
        says="xmm_input",
        needs=("kvm",),
    ),
)
