"""The moment: what libvirt says of the guest now, and the host's clock."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have, look
from virt_preflight.agent.families.state.guest import GuestCondition
from virt_preflight.agent.sources import Source, Unreadable
from virt_preflight.agent.xml import attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class HostClock:
    """Whether the host's own TSC is invariant."""

    invariant: bool


@look(Pace.MOVING)
def guest_condition(source: Source, domain: Domain) -> GuestCondition:
    """libvirt's word on snapshots, jobs and state; block jobs of old also from the live XML."""
    told = json.loads(source.libvirt("domain-jobs", domain.uuid))
    if not isinstance(told, dict):
        raise Unreadable("libvirt's answer about the guest's jobs is not understood")
    mirrored = tuple(
        attribute(disk, "target", "dev") or "?"
        for disk in domain.root.findall("devices/disk")
        if disk.find("mirror") is not None
    )
    block_jobs = told.get("block_jobs")
    if block_jobs is not None:
        block_jobs = tuple(dict.fromkeys([*map(str, block_jobs), *mirrored]))
    return GuestCondition(
        name=domain.name,
        state=told.get("state"),
        reason=told.get("reason"),
        snapshots=told.get("snapshots"),
        block_jobs=block_jobs or mirrored or (None if block_jobs is None else ()),
        job=told.get("job"),
        messages=None if told.get("messages") is None else tuple(map(str, told["messages"])),
    )


@have(Pace.FIXED)
def host_clock(source: Source) -> HostClock:
    """Linux calls it nonstop_tsc (CPUID 0x80000007 EDX bit 8)."""
    flags = re.search(r"^flags\s*:(.*)$", source.text("/proc/cpuinfo"), re.MULTILINE)
    return HostClock(invariant=flags is not None and "nonstop_tsc" in flags[1].split())
