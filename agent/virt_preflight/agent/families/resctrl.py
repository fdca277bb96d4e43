"""Resource control (resctrl): shares of the CPUs' caches and of their way to memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have, need
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Source
from virt_preflight.agent.xml import Element, parse

BANDWIDTH = "memory bandwidth"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestAllocations:
    """What the guest is to have of its own: "L3 cache", with the types of it, or BANDWIDTH."""

    types_by_resource: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostControls:
    """The same of what libvirt can give there, which it lists in its capabilities."""

    types_by_resource: Mapping[str, frozenset[str]]


@need
def guest_allocations(domain: Domain) -> GuestAllocations | None:
    """`<cache>` in `<cachetune>` and `<node>` in `<memorytune>`; None of a guest without both."""
    caches = domain.root.findall("cputune/cachetune/cache")
    found = _of_caches((cache, cache) for cache in caches)
    if domain.root.find("cputune/memorytune/node") is not None:
        found[BANDWIDTH] = frozenset()
    return GuestAllocations(types_by_resource=found) if found else None


@have(Pace.FIXED)
def host_controls(source: Source) -> HostControls:
    """`<control>` of a cache's bank and of memory's bandwidth (virCapabilitiesInitCaches)."""
    host = parse(source.libvirt("capabilities"))
    banks = host.findall("host/cache/bank")
    found = _of_caches((bank, control) for bank in banks for control in bank.findall("control"))
    if host.find("host/memory_bandwidth/node/control") is not None:
        found[BANDWIDTH] = frozenset()
    return HostControls(types_by_resource=found)


def _of_caches(parts: Iterable[tuple[Element, Element]]) -> dict[str, frozenset[str]]:
    """Types by cache: of each pair the first names its level, the second a type."""
    found: dict[str, frozenset[str]] = {}
    for cache, part in parts:
        resource = f"L{cache.get('level')} cache"
        found[resource] = found.get(resource, frozenset()) | {part.get("type", "")}
    return found


@check(
    "resctrl.not-allocatable",
    Severity.BLOCKER,
    title="no control over caches or memory bandwidth",
    remedy="Mount resctrl on the host (and switch it on in its firmware), or give the guest no "
    "share of its own (virsh migrate --xml).",
)
def not_allocatable(guest: GuestAllocations, host: HostControls) -> Problems:
    """A share of a cache that is the guest's alone takes CPUs with CAT, and resctrl mounted.

    Errors: "Resource control is not supported on this host", "Cache level 3 does not support
    tuning for scope type 'both'", "RDT Memory Bandwidth allocation unsupported"
    (virResctrlAllocCreate, util/virresctrl.c). Where the host has that control it is left open
    whether enough is free: others' groups are not looked at, a rehearsal tells.
    """
    for resource, types in guest.types_by_resource.items():
        offered = host.types_by_resource.get(resource)
        if offered is None:
            yield Problem(
                subject=resource,
                wanted=f"a share of the {resource} for the guest alone",
                found="libvirt there cannot give one",
                commands=("mount -t resctrl resctrl /sys/fs/resctrl",),
            )
        elif types - offered:
            yield Problem(
                subject=resource,
                wanted=f"shares of the {resource} by type {', '.join(sorted(types))}",
                found=f"only by {', '.join(sorted(offered))}",
            )
        else:
            yield CouldNotTell(subject=resource, why="how much of it is free is not looked at")
