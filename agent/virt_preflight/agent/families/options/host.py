"""What a host has to say to options: its scripts, and userfaultfd."""

from __future__ import annotations

from dataclasses import dataclass

from virt_preflight.agent.fact import Pace, have
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.sources import Absent, Source, Want

HOOKS = "/etc/libvirt/hooks"
USERFAULTFD = "/proc/sys/vm/unprivileged_userfaultfd"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHooks:
    """The scripts that libvirt runs when a guest arrives."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPostcopy:
    """Whether QEMU may be told of page faults: `refusal` why surely not, `unclear` why perhaps."""

    refusal: str = ""
    unclear: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFolder:
    """Where libvirt has QEMU put memory that is files: a directory, and its kind of file system."""

    path: str
    file_system: str


@have(Pace.FIXED)
def memory_folder(source: Source, conf: QemuConf) -> MemoryFolder:
    """memory_backing_dir (virQEMUDriverConfigNew, qemu/qemu_conf.c)."""
    path = conf.string("memory_backing_dir") or "/var/lib/libvirt/qemu/ram"
    return MemoryFolder(path=path, file_system=source.file_system(path))


@have(Pace.FIXED)
def host_hooks(source: Source) -> HostHooks:
    """libvirt looks for them when it starts (virHookCheck, util/virhook.c)."""
    paths = []
    for directory, wanted in ((HOOKS, "qemu"), (f"{HOOKS}/qemu.d", "")):
        try:
            names = source.names(directory)
        except Absent:
            continue
        paths += [
            f"{directory}/{name}"
            for name in names
            if name == (wanted or name) and source.stat(f"{directory}/{name}").kind == "file"
        ]
    return HostHooks(paths=tuple(paths))


@have(Pace.FIXED)
def host_postcopy(source: Source, qemu: QemuUser) -> HostPostcopy:
    """Whether an ordinary user may use userfaultfd(2); root may always."""
    if qemu.user.uid == 0:
        return HostPostcopy()
    try:
        allowed = source.text(USERFAULTFD).strip()
    except Absent:
        return HostPostcopy(unclear="the kernel has no vm.unprivileged_userfaultfd")
    if allowed != "0":
        return HostPostcopy()
    try:
        # QEMU 8.1 tries the device first.
        if source.may("/dev/userfaultfd", Want.WRITE, qemu.user):
            return HostPostcopy(unclear="only /dev/userfaultfd is allowed, which QEMU 8.1 uses")
    except Absent:
        pass
    return HostPostcopy(
        refusal=f"vm.unprivileged_userfaultfd = 0 and QEMU runs as {qemu.user.name}"
    )
