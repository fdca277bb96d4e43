"""Ways to go through the plugs of a guest's NICs, and words for them."""

from __future__ import annotations

from collections.abc import Iterator

from virt_preflight.agent.check import CouldNotTell
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.nics.host import Link, NicPlugs, Plug

BRIDGED = ("bridge", "network")
FORWARDS_BY = {
    "": "an isolated network",
    "nat": "a network with NAT",
    "route": "a routed network",
    "open": "an open network",
    "hostdev": "a pool of PCI devices",
    "private": "macvtap",
    "vepa": "macvtap",
    "passthrough": "macvtap",
}


def links(host: NicPlugs, *kinds: str) -> Iterator[tuple[Plug, Link | None]]:
    """Plugs of these kinds with their link; what could not be read is told by unread."""
    for found in host.plugs:
        if found.kind in kinds and found.device:
            link = host.link_by_name.get(found.device)
            if not isinstance(link, Unknown):
                yield found, link


def unread(host: NicPlugs, *kinds: str) -> Iterator[CouldNotTell]:
    """What `links` passes over; one check of each kind tells it."""
    for found in host.plugs:
        if found.kind in kinds and found.device:
            link = host.link_by_name.get(found.device)
            if isinstance(link, Unknown):
                yield CouldNotTell(subject=found.nic.subject, why=link.why)


def named(found: Plug) -> str:
    """The bridge or device, and through which network."""
    through = f" of network {found.nic.source}" if found.network else ""
    return f"{found.device}{through}"


def as_seen(kind: str) -> str:
    """What a NIC is plugged into, in words."""
    return {
        "bridge": "a bridge of the host",
        "network": "libvirt's own bridge",
        "direct": "macvtap",
        "hostdev": "a PCI device",
    }.get(kind, kind)
