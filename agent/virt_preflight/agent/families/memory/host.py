"""What a host has of ordinary memory, and what its kernel lets a process map."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from virt_preflight.agent.fact import Pace, have
from virt_preflight.agent.sources import Absent, Source

MEMINFO = "/proc/meminfo"
OVERCOMMIT = "/proc/sys/vm/overcommit_memory"
# libvirtd's, the modular QEMU daemon's; older ones below /var/run, which leads there.
PID_FILES = ("/run/libvirtd.pid", "/run/virtqemud.pid")


class Overcommit(Enum):
    """vm.overcommit_memory: how the kernel decides whether memory may be mapped."""

    GUESS = "0"
    ALWAYS = "1"
    NEVER = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """In KiB, as the kernel counts them (Documentation/filesystems/proc.rst, meminfo).

    `huge_pages_kib` is held for huge pages, free or not: nothing else can be put there.
    """

    total_kib: int
    available_kib: int
    swap_total_kib: int = 0
    swap_free_kib: int = 0
    huge_pages_kib: int = 0
    commit_limit_kib: int = 0
    committed_kib: int = 0
    overcommit: Overcommit = Overcommit.GUESS

    @property
    def ordinary_kib(self) -> int:
        """All that can ever be ordinary memory."""
        return self.total_kib - self.huge_pages_kib


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonLimits:
    """Limits that QEMU inherits from libvirtd; None: there is none."""

    address_space_kib: int | None


@have(Pace.MOVING)
def host_memory(source: Source) -> HostMemory:
    """From /proc/meminfo and vm.overcommit_memory."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", source.text(MEMINFO), re.MULTILINE)
    kib_by_name = {name: int(value) for name, value in lines}
    return HostMemory(
        total_kib=kib_by_name["MemTotal"],
        available_kib=kib_by_name["MemAvailable"],
        swap_total_kib=kib_by_name.get("SwapTotal", 0),
        swap_free_kib=kib_by_name.get("SwapFree", 0),
        huge_pages_kib=kib_by_name.get("Hugetlb", 0),
        commit_limit_kib=kib_by_name.get("CommitLimit", 0),
        committed_kib=kib_by_name.get("Committed_AS", 0),
        overcommit=Overcommit(source.text(OVERCOMMIT).strip()),
    )


@have(Pace.FIXED)
def daemon_limits(source: Source) -> DaemonLimits:
    """From /proc/PID/limits; a daemon that runs only when asked has no PID file at the moment."""
    for path in PID_FILES:
        try:
            pid = int(source.text(path))
            limits = source.text(f"/proc/{pid}/limits")
        except Absent:
            continue
        found = re.search(r"^Max address space\s+(\d+)\s", limits, re.MULTILINE)
        return DaemonLimits(address_space_kib=int(found[1]) // 1024 if found else None)
    return DaemonLimits(address_space_kib=None)
