"""Disks: there, readable, what they seem; their chains, secrets and servers."""

from __future__ import annotations

from dataclasses import replace

from tests.lab import faults
from tests.lab.guests import IMAGES, SHARED, Disk
from tests.lab.scenarios.pieces import DISK, NAMED, OWN
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

SECRET = "0b0b0b0b-1111-2222-3333-444444444444"
LUKS = Disk(path=f"{SHARED}/@name.luks", format="qcow2", luks_secret=SECRET)

SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "disk-missing",
        "disks.missing",
        guest=guest(disks=(OWN,)),
        says="No such file or directory",
    ),
    fails(
        "disk-unreadable",
        "disks.unreadable",
        guest=guest(disks=(DISK,)),
        destination="h5",
        then_on_source=(faults.permissions(DISK.path, mode="600"),),
        says="Permission denied",
    ),
    # Readable is enough for Prepare: it fails at the very end, when the guest is to go on there.
    fails(
        "disk-unwritable",
        "disks.unwritable",
        "disks.unreadable",
        guest=guest(disks=(DISK,)),
        destination="h5",
        then_on_source=(faults.permissions(DISK.path, mode="644"),),
        says="Permission denied",
    ),
    migrates(
        "disk-readonly-unwritable",
        guest=guest(disks=(replace(DISK, mode="readonly"),)),
        destination="h5",
        then_on_source=(faults.permissions(DISK.path, mode="644"),),
    ),
    fails(
        "disk-directory-closed",
        "disks.unreadable",
        guest=guest(disks=(replace(DISK, path=f"{SHARED}/@name/a.qcow2"),)),
        destination="h5",
        on_source=(faults.directory(f"{SHARED}/@name"),),
        then_on_source=(
            faults.permissions(f"{SHARED}/@name/a.qcow2", mode="666"),
            faults.permissions(f"{SHARED}/@name", mode="700"),
        ),
        says="Permission denied",
    ),
    migrates(
        "disk-group-readable",
        guest=guest(disks=(DISK,)),
        destination="h5",
        then_on_source=(faults.permissions(DISK.path, mode="660", owner="root:libvirt-qemu"),),
    ),
    fails(
        "disk-other-format",
        "disks.wrong-format",
        guest=guest(disks=(OWN,)),
        on_destination=(faults.image(f"{IMAGES}/@name.qcow2", format="raw"),),
        says="Image is not in qcow2 format",
    ),
    # To raw every content is right: QEMU takes the image's own header for the guest's first bytes.
    migrates(
        "disk-raw-other-format",
        guest=guest(disks=(replace(OWN, path=f"{IMAGES}/@name.raw", format="raw"),)),
        on_destination=(faults.image(f"{IMAGES}/@name.raw", size_mib=16),),
    ),
    migrates(
        "disk-smaller",
        guest=guest(disks=(replace(OWN, path=f"{IMAGES}/@name.raw", format="raw"),)),
        on_destination=(faults.image(f"{IMAGES}/@name.raw", format="raw", size_mib=8),),
    ),
    migrates(
        "disk-larger",
        guest=guest(disks=(replace(OWN, path=f"{IMAGES}/@name.raw", format="raw"),)),
        on_destination=(faults.image(f"{IMAGES}/@name.raw", format="raw", size_mib=32),),
    ),
    # Of the right size and format, and something else: nobody looks at what is in it.
    migrates(
        "disk-other-content",
        guest=guest(disks=(replace(OWN, path=f"{IMAGES}/@name.raw", format="raw"),)),
        on_destination=(faults.filled(f"{IMAGES}/@name.raw", size_mib=16),),
    ),
    migrates(
        "disk-io-uring",
        guest=guest(cpu=NAMED, disks=(replace(DISK, driver=" io='io_uring'"),)),
        source="h3",
    ),
    migrates(
        "disk-copy-on-each",
        guest=guest(disks=(replace(OWN, on="both"), replace(DISK, target="vdb"))),
    ),
    fails(
        "disk-backing-missing",
        "disks.backing-missing",
        guest=guest(disks=(replace(DISK, backing=f"{IMAGES}/@name-lower.qcow2"),)),
        says="No such file or directory",
    ),
    migrates(
        "disk-backing",
        guest=guest(disks=(replace(DISK, backing=f"{IMAGES}/@name-lower.qcow2"),)),
        on_destination=(faults.image(f"{IMAGES}/@name-lower.qcow2"),),
    ),
    fails(
        "disk-backing-other-format",
        "disks.wrong-format",
        "disks.wrong-format",
        guest=guest(disks=(replace(DISK, backing=f"{IMAGES}/@name-lower.qcow2"),)),
        on_destination=(faults.image(f"{IMAGES}/@name-lower.qcow2", format="raw"),),
        says="Image is not in qcow2 format",
    ),
    # The second file below: the first one is there, and names it.
    fails(
        "disk-backing-deep-missing",
        "disks.backing-missing",
        guest=guest(disks=(replace(DISK, backing=f"{IMAGES}/@name-lower.qcow2"),)),
        on_source=(
            faults.image(f"{IMAGES}/@name-lowest.qcow2"),
            faults.overlay(f"{IMAGES}/@name-lower.qcow2", f"{IMAGES}/@name-lowest.qcow2"),
        ),
        on_destination=(
            faults.image(f"{IMAGES}/@name-lowest.qcow2"),
            faults.overlay(f"{IMAGES}/@name-lower.qcow2", f"{IMAGES}/@name-lowest.qcow2"),
            faults.moved_away(f"{IMAGES}/@name-lowest.qcow2"),
        ),
        says="Cannot access backing file",
    ),
    fails(
        "disk-data-file-missing",
        "disks.backing-missing",
        "disks.backing-missing",
        guest=guest(disks=(replace(DISK, on="nowhere"),)),
        on_source=(faults.image_with_content_apart(DISK.path, f"{IMAGES}/@name.apart"),),
        says="No such file or directory",
    ),
    # To libvirt and QEMU a symbolic link is the file at its end.
    migrates(
        "disk-by-link",
        guest=guest(disks=(replace(DISK, path=f"{IMAGES}/@name-link.qcow2", on="nowhere"),)),
        on_source=(
            faults.image(DISK.path),
            faults.linked(DISK.path, f"{IMAGES}/@name-link.qcow2"),
        ),
        on_destination=(faults.linked(DISK.path, f"{IMAGES}/@name-link.qcow2"),),
    ),
    fails(
        "disk-is-directory",
        "disks.missing",
        "disks.wrong-format",
        guest=guest(disks=(OWN,)),
        on_destination=(faults.directory(OWN.path),),
        says="",
    ),
    fails(
        "disk-secret-absent",
        "disks.no-secret",
        guest=guest(disks=(LUKS,)),
        on_source=(faults.secret(SECRET),),
        says="no secret with matching uuid",
    ),
    fails(
        "disk-secret-other-value",
        guest=guest(disks=(LUKS,)),
        on_source=(faults.secret(SECRET),),
        on_destination=(faults.secret(SECRET, "another"),),
        says="Invalid password, cannot unlock any keyslot",
        told_from="trial",
        beyond="only whoever tries the passphrase knows whether it fits",
    ),
    migrates("disk-secret", guest=guest(disks=(LUKS,)), **both(faults.secret(SECRET))),
    fails(
        "disk-nbd-unreachable",
        "disks.unreachable",
        guest=guest(
            devices="<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
            "<source protocol='nbd'><host name='127.0.0.1' port='10999'/></source>"
            "<target dev='vda' bus='virtio'/></disk>",
        ),
        on_source=(faults.nbd_server(f"{IMAGES}/@name.nbd", port=10999, address="127.0.0.1"),),
        options=(),
        says="Connection refused",
    ),
    # No --unsafe: a network disk is shared by its nature.
    migrates(
        "disk-nbd",
        guest=guest(
            devices="<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
            "<source protocol='nbd'><host name='h1' port='10999'/></source>"
            "<target dev='vda' bus='virtio'/></disk>",
        ),
        on_source=(faults.nbd_server(f"{IMAGES}/@name.nbd", port=10999, address="0.0.0.0"),),
        options=(),
    ),
    fails(
        "disk-transient",
        "disks.transient",
        guest=guest(disks=(replace(DISK, inside="<transient/>"),)),
        says="transient",
    ),
    fails(
        "disk-snapshot",
        "state.snapshots",
        "state.snapshots",
        guest=guest(disks=(DISK,)),
        then_on_source=(faults.virsh("snapshot-create-as @name one"),),
        says="cannot migrate domain with 1 snapshots",
    ),
    fails(
        "disk-block-job",
        "state.block-job",
        guest=guest(disks=(DISK,)),
        then_on_source=(
            faults.virsh(
                f"blockcopy @name vda --dest {IMAGES}/@name.copy --format qcow2 --transient-job "
                ">/dev/null",
                back=f"rm -f {IMAGES}/@name.copy",
            ),
        ),
        says="domain has active block job",
    ),
)
