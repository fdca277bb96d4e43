"""What libvirt says of its networks and network filters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.fact import Pace, Unknown, have, look
from virt_preflight.agent.families.nics.guest import GuestFilters
from virt_preflight.agent.sources import Source, SourceError
from virt_preflight.agent.unlisted import unlisted
from virt_preflight.agent.xml import BadXml, Element, attribute, number, parse

# Networks whose bridge is libvirt's own; "" is a network without <forward>.
ROUTED = ("", "nat", "route", "open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Portgroup:
    """A `<portgroup>` of a network."""

    virtualport: str = ""
    tagged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """A device that a network gives to guests, and how many have it now."""

    name: str
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One libvirt network. `inbound`: (average, peak) in kB/s that `floor` may take from."""

    active: bool
    mode: str
    bridge: str = ""
    virtualport: str = ""
    tagged: bool = False
    portgroups: Mapping[str, Portgroup]
    default_portgroup: str = ""
    pool: tuple[Pooled, ...] = ()
    physical: str = ""
    inbound: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNetworks:
    """libvirt's networks by name; Unknown when libvirt does not say, or one cannot be read."""

    by_name: Mapping[str, Network | Unknown] | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFilters:
    """nwfilters by name, with those that each includes; Unknown when it cannot be read."""

    included_by_name: Mapping[str, tuple[str, ...] | Unknown]


@have(Pace.MOVING)
def host_networks(source: Source) -> HostNetworks:
    """All of libvirt's networks, active or not. NICs on plain bridges need none of them."""
    try:
        answer = json.loads(source.libvirt("networks"))
    except SourceError as error:
        return HostNetworks(by_name=Unknown(f"libvirt's networks: {error}"))
    return HostNetworks(by_name={entry["name"]: _readable(entry) for entry in answer})


def _readable(entry: Mapping[str, object]) -> Network | Unknown:
    try:
        return read_network(str(entry["xml"]), active=entry["active"] is True)
    except BadXml as error:
        return Unknown(f"network {entry['name']}: {error}")


def read_network(document: str, *, active: bool) -> Network:
    """From its XML; a `<forward>` without mode is nat (virNetworkForwardDefParseXML)."""
    root = parse(document)
    forward = root.find("forward")
    groups = {group.get("name", ""): group for group in root.findall("portgroup")}
    default = next((name for name, group in groups.items() if group.get("default") == "yes"), "")
    inbound = root.find("bandwidth/inbound")
    return Network(
        active=active,
        mode=forward.get("mode", "nat") if forward is not None else "",
        bridge=attribute(root, "bridge", "name") or "",
        virtualport=attribute(root, "virtualport", "type") or "",
        tagged=root.find("vlan/tag") is not None,
        portgroups={
            name: Portgroup(
                virtualport=attribute(group, "virtualport", "type") or "",
                tagged=group.find("vlan/tag") is not None,
            )
            for name, group in groups.items()
        },
        default_portgroup=default,
        pool=tuple(_pooled(device) for device in _pool(forward)),
        physical=attribute(root, "forward/pf", "dev") or "",
        inbound=_rates(inbound) if inbound is not None else None,
    )


def _pool(forward: Element | None) -> list[Element]:
    if forward is None:
        return []
    addresses = forward.findall("address")
    return addresses or forward.findall("interface")


def _pooled(device: Element) -> Pooled:
    name = device.get("dev") or ":".join(
        device.get(part, "0").removeprefix("0x") for part in ("domain", "bus", "slot", "function")
    )
    taken = number(device, "connections") if device.get("connections") else 0
    return Pooled(name=name, connections=taken)


def _rates(inbound: Element) -> tuple[int, int]:
    average = number(inbound, "average") if inbound.get("average") else 0
    return average, number(inbound, "peak") if inbound.get("peak") else 0


@look(Pace.MOVING)
def host_filters(source: Source, guest: GuestFilters) -> HostFilters:
    """All nwfilters: those that the guest's refer to may include any other."""
    included: dict[str, tuple[str, ...] | Unknown] = {}
    for entry in json.loads(source.libvirt("nwfilters")):
        try:
            root = parse(entry["xml"])
        except BadXml as error:
            included[entry["name"]] = Unknown(f"nwfilter {entry['name']}: {error}")
            continue
        included[entry["name"]] = tuple(
            found for element in root.findall("filterref") if (found := element.get("filter"))
        )
    inner = {name for names in included.values() if isinstance(names, tuple) for name in names}
    for name in sorted((inner | {name for _, name in guest.references}) - included.keys()):
        if (doubt := unlisted(source, "nwfilter-named", name)) is not None:
            included[name] = doubt
    return HostFilters(included_by_name=included)
