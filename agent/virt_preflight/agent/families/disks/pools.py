"""Storage pools: those that a guest's volumes are in, and those that a copied disk would go to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from shlex import quote

import msgspec

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Pace, Unknown, look
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.guest import (
    GuestDisks,
    copied,
    dropped_when_missing,
)
from virt_preflight.agent.families.disks.images import SeenDisks
from virt_preflight.agent.families.disks.openings import (
    ROOT,
    TAKES_OWNERS,
    given_to,
    runs_as,
)
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, Source, SourceError, Want
from virt_preflight.agent.unlisted import unlisted
from virt_preflight.agent.xml import BYTES_BY_UNIT, parse, text_of


class _Pool(msgspec.Struct):
    name: str
    active: bool
    xml: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPool:
    """A storage pool that is defined here; `available_bytes` is of its last refresh."""

    name: str
    active: bool
    target: str
    available_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPools:
    """The host's pools, asked for only when something of the guest depends on one."""

    pools: tuple[HostPool, ...]
    # By name or target, of those that are not listed: why that may be for want of a right.
    doubts: Mapping[str, Unknown] = field(default_factory=dict)

    def named(self, name: str) -> HostPool | None:
        """The pool of that name."""
        return next((pool for pool in self.pools if pool.name == name), None)

    def holding(self, path: str) -> HostPool | None:
        """The active pool that a new file at the path would be made in."""
        # virStoragePoolLookupByTargetPath: the directory has to be the pool's very own.
        directory = path.rpartition("/")[0]
        for pool in self.pools:
            if pool.active and pool.target.rstrip("/") == directory.rstrip("/"):
                return pool
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """How a file would be that libvirt's storage driver makes for a copied disk."""

    path: str
    pool: str
    # The pool lists a volume of that name, and so nothing would be made.
    listed: bool
    # QEMU's user may search the directory, and would own the file.
    searched: bool
    given: bool
    user: str
    # libvirtd may make files in the directory.
    makes: bool | Unknown = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCopies:
    """By target: what would come of disks that are copied to a file that is not there yet."""

    files: Mapping[str, NewFile | Unknown]


@look(Pace.MOVING)
def seen_pools(source: Source, guest: GuestDisks, options: MigrationOptions) -> SeenPools | None:
    """None when nothing of the guest depends on a pool."""
    if not guest.uses_volumes and not any(copied(disk, options) for disk in guest.disks):
        return None
    told = msgspec.json.decode(source.libvirt("pools"), type=tuple[_Pool, ...])
    seen = SeenPools(pools=tuple(_pool(pool) for pool in told))
    return replace(seen, doubts=dict(_doubts(source, guest, seen, options)))


def _doubts(
    source: Source, guest: GuestDisks, seen: SeenPools, options: MigrationOptions
) -> Iterator[tuple[str, Unknown]]:
    """Of pools that the guest needs and that are not in the list."""
    volumes = {
        layer.pool for disk in guest.disks for layer in disk.layers if layer.kind == "volume"
    }
    files = {
        disk.top.path
        for disk in guest.disks
        if disk.top.kind == "file" and copied(disk, options) and not seen.holding(disk.top.path)
    }
    for name in sorted(volumes - {pool.name for pool in seen.pools}):
        if (doubt := unlisted(source, "pool-named", name)) is not None:
            yield name, doubt
    targets = {pool.target.rstrip("/") for pool in seen.pools}
    for directory in sorted({directory_of(path) for path in files}):
        if directory.rstrip("/") not in targets:
            doubt = unlisted(source, "pool-at", directory)
            if doubt is not None:
                yield directory, doubt


def directory_of(path: str) -> str:
    """Which a pool would have as its target."""
    return path.rpartition("/")[0] or "/"


def _pool(told: _Pool) -> HostPool:
    root = parse(told.xml)
    available = root.find("available")
    size = None
    if available is not None and re.fullmatch(r"\d{1,20}", available.text or "", re.ASCII):
        size = int(available.text or "") * BYTES_BY_UNIT[available.get("unit", "bytes").lower()]
    return HostPool(
        name=told.name,
        active=told.active,
        target=text_of(root, "target/path") or "",
        available_bytes=size,
    )


@look(Pace.MOVING)
def seen_copies(
    source: Source,
    guest: GuestDisks,
    seen: SeenDisks,
    pools: SeenPools,
    options: MigrationOptions,
    qemu: QemuUser,
) -> SeenCopies:
    """For each copied disk without a file here, in a directory that is an active pool."""
    files: dict[str, NewFile | Unknown] = {}
    for disk in guest.disks:
        path = disk.top.path
        if disk.top.kind != "file" or not copied(disk, options):
            continue
        pool = pools.holding(path)
        if pool is None or seen.files.get(path) is not None:
            continue
        directory, _, name = path.rpartition("/")
        try:
            user = runs_as(source, qemu, guest.dac)
            owner = given_to(source, qemu, guest.dac, disk.top.dac)
            files[disk.target] = NewFile(
                path=path,
                pool=pool.name,
                listed=_listed(source, pool.name, name),
                searched=source.may(directory or "/", Want.EXECUTE, user),
                makes=_makes(source, directory or "/"),
                # The storage driver makes it as root, mode 0600 (virStorageVolDefParsePerms).
                given=user.uid == 0 or (owner is not None and owner[0] == user.uid),
                user=user.name,
            )
        except SourceError as error:
            files[disk.target] = Unknown(str(error))
    return SeenCopies(files=files)


def _makes(source: Source, directory: str) -> bool | Unknown:
    """As root, who on a server is not who he is here."""
    try:
        if source.may(directory, Want.WRITE, ROOT):
            return True
        if source.file_system(directory) in TAKES_OWNERS:
            return False
    except SourceError as error:
        return Unknown(str(error))
    return Unknown(f"whether libvirtd may write to {directory} is its server's to tell")


def _listed(source: Source, pool: str, volume: str) -> bool:
    """A pool may list what is gone; asked for that volume alone, libvirt looks and finds out."""
    try:
        return volume in msgspec.json.decode(source.libvirt("pool-volumes", pool), type=list[str])
    except Absent:
        return False


@check(
    "disks.no-pool",
    Severity.BLOCKER,
    title="a disk's storage pool is not active",
    remedy="Define and start the pool.",
)
def no_pool(guest: GuestDisks, pools: SeenPools) -> Problems:
    """A disk that is a volume is looked up in its pool, which has to be defined and active.

    Errors: "no storage pool with matching name '%s'", "storage pool '%s' containing volume '%s' is
    not active" (virDomainStorageSourceTranslateSourcePool, conf/domain_conf.c).
    """
    for disk in guest.disks:
        for layer in disk.layers:
            pool = pools.named(layer.pool)
            if layer.kind != "volume" or (pool is not None and pool.active):
                continue
            if layer is disk.top and dropped_when_missing(disk):
                continue
            if (doubt := pools.doubts.get(layer.pool)) is not None:
                yield CouldNotTell(subject=disk.subject, why=doubt.why)
                continue
            yield Problem(
                subject=disk.subject,
                wanted=f"pool {layer.pool}, active",
                found="not active" if pool else "no such pool",
                commands=(f"virsh pool-start {quote(layer.pool)}",) if pool else (),
            )


@check(
    "disks.no-volume",
    Severity.BLOCKER,
    title="a disk's volume is not in its pool",
    remedy="Refresh the pool if the volume is there; else make the storage available.",
)
def no_volume(
    guest: GuestDisks, pools: SeenPools, seen: SeenDisks, options: MigrationOptions
) -> Problems:
    """The pool has to know the volume; one that appeared in its directory it knows after a refresh.

    Error: "no storage vol with matching name '%s'" (storage/storage_driver.c).
    """
    for disk in guest.disks:
        for layer in disk.layers:
            pool = pools.named(layer.pool)
            if layer.kind != "volume" or pool is None or not pool.active:
                continue
            if layer is disk.top and (dropped_when_missing(disk) or copied(disk, options)):
                continue
            found = seen.volumes.get((layer.pool, layer.volume), "")
            if isinstance(found, Unknown):
                yield CouldNotTell(subject=disk.subject, why=found.why)
            elif found is None:
                yield Problem(
                    subject=disk.subject,
                    wanted=f"volume {layer.volume} in pool {layer.pool}",
                    found="no such volume",
                    commands=(f"virsh pool-refresh {quote(layer.pool)}",),
                )
