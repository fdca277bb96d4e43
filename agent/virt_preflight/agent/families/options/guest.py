"""What the options mean for this guest, and the XML given for the destination."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.xml import BadXml, Element, attribute, kib, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Essentials:
    """What must be alike in the guest and in the XML that is given for the destination.

    None: not told by the XML alone.
    """

    name: str
    uuid: str
    virt_type: str
    machine: str
    memory_kib: int | None
    vcpus: str
    disks: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEssentials:
    """Of the guest as it runs."""

    essentials: Essentials


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationXml:
    """Of the XML given with --xml; `bad` says why it is no domain XML."""

    essentials: Essentials | None
    bad: str = ""
    root: Element | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCopies:
    """The disks that --copy-storage-... would copy, and the targets of all disks."""

    copied: tuple[str, ...]
    targets: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDisks:
    """Disks are listed, and none are to be copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelledCopy:
    """Disks are to be copied, and the migration goes through a tunnel."""

    disks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostcopyWanted:
    """The guest is moved with --postcopy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostcopyOfFiles:
    """The guest is moved with --postcopy, and its memory is files of ordinary pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHardLimit:
    """Whether the guest has `<memtune><hard_limit>`."""

    present: bool


def essentials_of(domain: Domain) -> Essentials:
    """Memory only where `<memory>` alone says it: cells and modules are added up by libvirt."""
    root = domain.root
    memory = root.find("memory")
    plain = root.find("cpu/numa") is None and root.find("devices/memory") is None
    return Essentials(
        name=domain.name,
        uuid=domain.uuid,
        virt_type=root.get("type", ""),
        machine=attribute(root, "os/type", "machine") or "",
        memory_kib=kib(memory) if memory is not None and plain else None,
        vcpus=text_of(root, "vcpu") or "1",
        disks=tuple(
            sorted(attribute(disk, "target", "dev") or "" for disk in root.findall("devices/disk"))
        ),
        macs=tuple(
            _mac(attribute(nic, "mac", "address") or "none")
            for nic in root.findall("devices/interface")
        ),
    )


def _mac(text: str) -> str:
    """As virMacAddrParse reads it: case and leading zeros do not matter."""
    parts = text.strip().split(":")
    if len(parts) == 6 and all(re.fullmatch(r"[0-9A-Fa-f]{1,2}", part) for part in parts):
        return ":".join(f"{int(part, 16):02x}" for part in parts)
    return text


@need
def guest_essentials(domain: Domain) -> GuestEssentials:
    """Of the XML of the running guest."""
    return GuestEssentials(essentials=essentials_of(domain))


@need
def destination_xml(options: MigrationOptions) -> DestinationXml | None:
    """None without --xml."""
    if not options.xml:
        return None
    try:
        domain = read_domain(options.xml)
        return DestinationXml(essentials=essentials_of(domain), root=domain.root)
    except BadXml as error:
        return DestinationXml(essentials=None, bad=str(error))


@need
def guest_copies(domain: Domain, options: MigrationOptions) -> GuestCopies:
    """The named ones, else all that are written (qemuMigrationAnyCopyDisk)."""
    disks = domain.root.findall("devices/disk")
    names = {attribute(disk, "target", "dev") or "": disk for disk in disks}
    copied = options.migrate_disks or tuple(
        name
        for name, disk in names.items()
        if disk.find("readonly") is None
        and disk.find("shareable") is None
        and disk.find("source") is not None
    )
    return GuestCopies(copied=copied, targets=frozenset(names))


@need
def listed_disks(options: MigrationOptions) -> ListedDisks | None:
    """None when disks are copied, or none are listed."""
    if options.copies_storage or not options.migrate_disks:
        return None
    return ListedDisks()


@need
def tunnelled_copy(options: MigrationOptions, copies: GuestCopies) -> TunnelledCopy | None:
    """None unless both are asked for."""
    if not (options.tunnelled and options.copies_storage):
        return None
    return TunnelledCopy(disks=copies.copied)


@need
def postcopy_wanted(options: MigrationOptions) -> PostcopyWanted | None:
    """None without --postcopy."""
    return PostcopyWanted() if options.postcopy else None


@need
def postcopied_files(domain: Domain, options: MigrationOptions) -> PostcopyOfFiles | None:
    """`<memoryBacking><source type='file'>`; huge pages are files that QEMU takes."""
    backing = domain.root.find("memoryBacking")
    if not options.postcopy or backing is None or backing.find("hugepages") is not None:
        return None
    return PostcopyOfFiles() if attribute(backing, "source", "type") == "file" else None


@need
def guest_hard_limit(domain: Domain) -> GuestHardLimit:
    """Of `<memtune>`."""
    return GuestHardLimit(present=domain.root.find("memtune/hard_limit") is not None)
