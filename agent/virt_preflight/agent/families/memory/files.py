"""Memory devices that are files of the host: NVDIMMs and virtio-pmem."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, Unknown, look, need
from virt_preflight.agent.families.chardevs.host import kinds_of
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.guest import DacLabel, domain_dac
from virt_preflight.agent.families.disks.openings import given_to, runs_as, shut_directory
from virt_preflight.agent.families.memory.guest import device_subject, size_kib
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Source, User, Want
from virt_preflight.agent.xml import text_of

MODELS = ("nvdimm", "virtio-pmem")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFile:
    """The file behind one memory device."""

    subject: str
    path: str
    size_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMemoryFiles:
    """A guest with such devices, and whether libvirtd may give it its files."""

    files: tuple[MemoryFile, ...]
    dac: DacLabel


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMemoryFiles:
    """What is at those paths ("" nothing), and whether libvirtd gives them to QEMU's user."""

    kind_by_path: Mapping[str, str | Unknown]
    given: bool
    # Of regular files.
    bytes_by_path: Mapping[str, int] = field(default_factory=dict)
    # Whom QEMU runs as, and the files that he may not both read and write as they are.
    user: str = ""
    shut: frozenset[str] = frozenset()


@need
def guest_memory_files(domain: Domain) -> GuestMemoryFiles | None:
    """`<memory><source><path>`."""
    files = tuple(
        MemoryFile(subject=device_subject(device, position), path=path, size_kib=size_kib(device))
        for position, device in enumerate(domain.root.findall("devices/memory"))
        if device.get("model") in MODELS and (path := text_of(device, "source/path"))
    )
    return GuestMemoryFiles(files=files, dac=domain_dac(domain.root)) if files else None


@look(Pace.MOVING)
def seen_memory_files(source: Source, guest: GuestMemoryFiles, qemu: QemuUser) -> SeenMemoryFiles:
    """Of this host. Who is given a file may open it; its directories are not given to anybody."""
    kinds = kinds_of(source, sorted({file.path for file in guest.files}))
    given = given_to(source, qemu, guest.dac) is not None
    user = runs_as(source, qemu, guest.dac)
    return SeenMemoryFiles(
        kind_by_path=kinds,
        given=given,
        bytes_by_path={
            path: source.stat(path).size_bytes for path, kind in kinds.items() if kind == "file"
        },
        user=user.name,
        shut=frozenset(
            path
            for path, kind in kinds.items()
            if kind == "file" and not _opens(source, path, user, given=given)
        ),
    )


def _opens(source: Source, path: str, user: User, *, given: bool) -> bool:
    """QEMU reads and writes it: as its owner where libvirtd makes its user that."""
    if shut_directory(source, path, user):
        return False
    return given or all(source.may(path, want, user) for want in (Want.READ, Want.WRITE))


@check(
    "memory.file-absent",
    Severity.BLOCKER,
    title="file of a memory device absent",
    remedy="Make a file of that size there, which the guest's memory then fills, or attach it.",
)
def file_absent(guest: GuestMemoryFiles, seen: SeenMemoryFiles) -> Problems:
    """libvirtd makes QEMU's user the owner of the file, which has to be there for that.

    Error: "unable to stat: /srv/nvdimm: No such file or directory" (virSecurityDACSetMemoryLabel,
    security/security_dac.c). Where owners are left alone QEMU makes what is not there, if it may
    (file_ram_open, system/physmem.c): that is left open.
    """
    for file in guest.files:
        match seen.kind_by_path.get(file.path):
            case "" if seen.given:
                size = f"{file.size_kib}K"
                yield Problem(
                    subject=file.subject,
                    wanted=file.path,
                    found="not there",
                    commands=(f"truncate -s {size} {shlex.quote(file.path)}",)
                    if not file.path.startswith("/dev/")
                    else (),
                )
            case "":
                why = f"{file.path} is not there, and QEMU is to make it if it may"
                yield CouldNotTell(subject=file.subject, why=why)
            case Unknown(why):
                yield CouldNotTell(subject=file.subject, why=why)


@check(
    "memory.file-too-small",
    Severity.BLOCKER,
    title="file of a memory device too small",
    remedy="Make the file as large as the device, or an empty one, which QEMU makes large.",
)
def file_too_small(guest: GuestMemoryFiles, seen: SeenMemoryFiles) -> Problems:
    """QEMU maps the file as the device's memory, and what is in it comes with the guest.

    Error: "backing store size 0x800000 does not match 'size' option 0x1000000"
    (file_ram_alloc, system/physmem.c).
    """
    for file in guest.files:
        found = seen.bytes_by_path.get(file.path, 0)
        if 0 < found < file.size_kib * 1024:
            yield Problem(
                subject=file.subject,
                wanted=f"{file.path} of {file.size_kib} KiB",
                found=f"{found // 1024} KiB",
                commands=(f"truncate -s {file.size_kib}K {shlex.quote(file.path)}",),
            )


@check(
    "memory.file-shut",
    Severity.BLOCKER,
    title="QEMU may not open the file of a memory device",
    remedy="Let the user that QEMU runs as read and write the file.",
)
def file_shut(guest: GuestMemoryFiles, seen: SeenMemoryFiles) -> Problems:
    """Where libvirtd gives QEMU no files, it opens them as they are.

    Error: "can't open backing store /srv/nvdimm for guest RAM: Permission denied" (QEMU).
    """
    for file in guest.files:
        if file.path in seen.shut:
            yield Problem(
                subject=file.subject,
                wanted=f"{file.path} open to {seen.user}",
                found=f"{seen.user} may not read and write it",
                commands=(f"ls -l {shlex.quote(file.path)}",),
            )
