"""Storage that is shared, that is copied, that comes from a pool or is a CD."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from tests.lab import faults
from tests.lab.guests import IMAGES, SHARED, Disk, Guest
from tests.lab.scenarios.pieces import CLUSTERED, DISK, OWN
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

NOT_SHARED = "Unsafe migration: Migration without shared storage is unsafe"
STORE = "/var/lib/libvirt/store"
POOL = faults.pool("store", STORE)
VOLUME = faults.shell(
    "volume in store",
    f"qemu-img create -q -f qcow2 {STORE}/@name.qcow2 16M; virsh -q pool-refresh store",
)
COPY_GOES = faults.shell(
    "the copy goes afterwards",
    ":",
    back=f"rm -f {OWN.path}; virsh -q pool-refresh images",
)


def from_pool(volume: str) -> Guest:
    """Its disk is a volume of a pool."""
    return guest(
        devices="<disk type='volume' device='disk'><driver name='qemu' type='qcow2' cache='none'/>"
        f"<source pool='store' volume='{volume}'/><target dev='vda' bus='virtio'/></disk>",
    )


def iso(policy: Literal["", "mandatory", "requisite", "optional"]) -> Guest:
    """A CD that lies on the source only."""
    disk = Disk(
        path=f"{IMAGES}/@name.iso",
        target="sda",
        bus="sata",
        device="cdrom",
        format="raw",
        cache="",
        size_mib=1,
        mode="readonly",
        startup_policy=policy,
    )
    return guest(disks=(disk,))


SCENARIOS: tuple[Scenario, ...] = (
    migrates("pool", guest=from_pool("@name.qcow2"), **both(POOL, VOLUME)),
    fails(
        "pool-absent",
        "disks.no-pool",
        guest=from_pool("@name.qcow2"),
        on_source=(POOL, VOLUME),
        says="no storage pool with matching name 'store'",
    ),
    fails(
        "pool-inactive",
        "disks.no-pool",
        guest=from_pool("@name.qcow2"),
        on_source=(POOL, VOLUME),
        on_destination=(faults.pool("store", STORE, state="inactive"),),
        says="pool 'store'",
    ),
    fails(
        "pool-volume-absent",
        "disks.no-volume",
        guest=from_pool("@name.qcow2"),
        on_source=(POOL, VOLUME),
        on_destination=(POOL,),
        says="no storage vol with matching name '@name.qcow2'",
    ),
    # /srv/shared is one directory for both, and nobody can tell libvirt.
    fails("unsafe", "disks.unsafe", guest=guest(disks=(DISK,)), options=(), says=NOT_SHARED),
    fails(
        "unsafe-writeback",
        "disks.unsafe",
        guest=guest(disks=(replace(DISK, cache="writeback"),)),
        options=(),
        says=NOT_SHARED,
    ),
    fails(
        "unsafe-one-of-two",
        "disks.unsafe",
        guest=guest(disks=(CLUSTERED, replace(DISK, target="vdb"))),
        options=(),
        says=NOT_SHARED,
    ),
    migrates("safe-cluster", guest=guest(disks=(CLUSTERED,)), options=()),
    # QEMU drops its caches at the hand-over, so on a shared file system any cache mode will do.
    migrates(
        "safe-cluster-writeback",
        guest=guest(disks=(replace(CLUSTERED, cache="writeback"),)),
        options=(),
    ),
    migrates(
        "safe-readonly",
        guest=guest(disks=(replace(OWN, mode="readonly", on="both"),)),
        options=(),
    ),
    migrates(
        "safe-empty-cdrom",
        guest=guest(
            devices="<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"
        ),
        options=(),
    ),
    fails(
        "unsafe-shareable",
        "disks.unsafe",
        guest=guest(
            disks=(replace(DISK, path=f"{SHARED}/@name.raw", format="raw", mode="shareable"),)
        ),
        options=(),
        says=NOT_SHARED,
    ),
    migrates(
        "copy-all",
        guest=guest(disks=(OWN,)),
        options=("--copy-storage-all",),
        on_destination=(COPY_GOES,),
    ),
    fails(
        "copy-all-no-pool",
        "disks.copy-without-pool",
        "disks.missing",
        guest=guest(disks=(replace(OWN, path="/var/lib/libvirt/boot/@name.qcow2"),)),
        options=("--copy-storage-all",),
        says="no storage pool with matching target path",
    ),
    fails(
        "copy-all-pool-stopped",
        "disks.copy-without-pool",
        "disks.missing",
        guest=guest(disks=(OWN,)),
        options=("--copy-storage-all",),
        on_destination=(faults.pool_stopped("images"),),
        says="pool",
    ),
    migrates(
        "copy-all-onto-file",
        guest=guest(disks=(replace(OWN, on="both"),)),
        options=("--copy-storage-all",),
    ),
    fails(
        "copy-all-onto-smaller",
        "disks.copy-of-other-size",
        guest=guest(disks=(OWN,)),
        options=("--copy-storage-all",),
        on_destination=(faults.image(OWN.path, size_mib=8),),
        says="",
    ),
    fails(
        "copy-inc-no-target",
        "disks.missing",
        "disks.copy-needs-target",
        guest=guest(disks=(replace(OWN, backing=f"{IMAGES}/@name-lower.qcow2"),)),
        options=("--copy-storage-inc",),
        says="pre-creation of storage targets for incremental storage migration is not supported",
    ),
    migrates(
        "copy-one-share-other",
        guest=guest(disks=(OWN, replace(CLUSTERED, target="vdb"))),
        options=("--copy-storage-all", "--migrate-disks", "vda"),
        on_destination=(COPY_GOES,),
    ),
    fails(
        "copy-one-forget-other",
        "disks.missing",
        "disks.unsafe",
        guest=guest(disks=(OWN, replace(OWN, path=f"{IMAGES}/@name-b.qcow2", target="vdb"))),
        options=("--copy-storage-all", "--migrate-disks", "vda"),
        says=NOT_SHARED,
    ),
    fails(
        "copy-unknown-disk",
        "options.no-such-disk",
        guest=guest(disks=(OWN,)),
        options=("--unsafe", "--copy-storage-all", "--migrate-disks", "vdx"),
        says="vdx",
    ),
    *(
        fails(
            f"cdrom-{policy or 'plain'}",
            "disks.missing",
            guest=iso(policy),
            options=(),
            says="No such file or directory",
        )
        for policy in ("", "mandatory")
    ),
    # Dropped on the way: the guest arrives with an empty drive.
    *(
        migrates(f"cdrom-{policy}", guest=iso(policy), options=())
        for policy in ("requisite", "optional")
    ),
    # One path, two files: libvirt does not look, and the guest finds another disk under its feet.
    migrates(
        "disk-another-file",
        guest=guest(disks=(replace(OWN, on="both"),)),
        checks=("disks.another-file",),
    ),
    fails(
        "copy-onto-itself",
        "disks.copy-onto-itself",
        guest=guest(disks=(DISK,)),
        options=("--unsafe", "--copy-storage-all"),
        says="'block-export-add': Block node is read-only",
    ),
    # bindfs hands on no locks, so nobody stops the two QEMUs that now write to one image.
    migrates(
        "copy-onto-itself-cluster",
        guest=guest(disks=(CLUSTERED,)),
        options=("--copy-storage-all",),
        checks=("disks.copy-onto-itself",),
        unsure_ok="a FUSE file system does not tell when a file was made, only its inode number",
    ),
    fails(
        "copy-onto-itself-raw",
        "disks.copy-onto-itself",
        guest=guest(disks=(replace(DISK, path=f"{SHARED}/@name.raw", format="raw"),)),
        options=("--unsafe", "--copy-storage-all"),
        says="'block-export-add': Block node is read-only",
    ),
    # What lies in the base alone is not copied, and nobody says so.
    migrates(
        "copy-inc-onto-flat",
        guest=guest(disks=(replace(OWN, backing=f"{IMAGES}/@name-lower.qcow2"),)),
        options=("--copy-storage-inc",),
        on_destination=(faults.image(OWN.path),),
        checks=("disks.copy-without-base",),
    ),
    migrates(
        "copy-inc-onto-overlay",
        guest=guest(disks=(replace(OWN, backing=f"{IMAGES}/@name-lower.qcow2"),)),
        options=("--copy-storage-inc",),
        on_destination=(
            faults.image(f"{IMAGES}/@name-lower.qcow2"),
            faults.overlay(OWN.path, f"{IMAGES}/@name-lower.qcow2"),
        ),
    ),
)
