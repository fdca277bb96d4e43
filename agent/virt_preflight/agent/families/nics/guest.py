"""A guest's network interfaces, as they reach the destination."""

from __future__ import annotations

from dataclasses import dataclass, replace

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.xml import Element, attribute, number

# Names that libvirt made up: they stay behind (virDomainNetDefFormat, conf/domain_conf.c).
MADE_UP = ("vnet", "macvtap", "macvlan")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNic:
    """One `<interface>`.

    `kind` and `source` are what is migrated: a live XML shows a NIC of a libvirt network as what
    that network made of it on the source, which is `seen_as`; virtualport, VLAN and bandwidth may
    then be that network's, too, and not the guest's own.
    """

    subject: str
    kind: str
    source: str
    seen_as: str = ""
    portgroup: str = ""
    mode: str = ""
    virtualport: str = ""
    tagged: bool = False
    floor: int = 0
    mtu: int | None = None
    filter: str = ""
    # A name that somebody chose for the device on the host.
    device: str = ""
    managed: bool = True
    # <driver queues>: more than one.
    multiqueue: bool = False
    driver: str = ""
    tap: str = ""
    vhost: str = ""
    socket_mode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNics:
    """A guest with NICs."""

    nics: tuple[GuestNic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFilters:
    """The nwfilters that the guest's NICs refer to: (NIC, filter)."""

    references: tuple[tuple[str, str], ...]


@need
def guest_nics(domain: Domain) -> GuestNics | None:
    """All of `<interface>`, hostdev ones less: those are PCI devices."""
    elements = enumerate(domain.root.findall("devices/interface"))
    nics = tuple(_nic(element, position) for position, element in elements)
    if domain.root.get("type") != "kvm":
        # Without KVM libvirt never uses vhost, asked for or not (qemuInterfaceOpenVhostNet).
        nics = tuple(replace(nic, driver="") for nic in nics)
    nics = tuple(nic for nic in nics if nic.kind != "hostdev")
    return GuestNics(nics=nics) if nics else None


@need
def guest_filters(domain: Domain) -> GuestFilters | None:
    """`<filterref filter='...'>` of each NIC."""
    nics = guest_nics.function(domain)
    references = tuple((nic.subject, nic.filter) for nic in nics.nics if nic.filter) if nics else ()
    return GuestFilters(references=references) if references else None


def _nic(element: Element, position: int) -> GuestNic:
    mac = attribute(element, "mac", "address")
    network = attribute(element, "source", "network")
    kind = "network" if network is not None else element.get("type", "")
    # Live, it has a port or names what the network led to (virDomainActualNetDefContentsFormat).
    resolved = network is not None and (
        element.get("type") != "network"
        or attribute(element, "source", "portid") is not None
        or attribute(element, "source", "bridge") is not None
    )
    inbound = element.find("bandwidth/inbound")
    mtu = element.find("mtu")
    device = attribute(element, "target", "dev") or ""
    managed = attribute(element, "target", "managed") != "no"
    if managed and (device.startswith(MADE_UP) or "%" in device):
        device = ""
    return GuestNic(
        subject=f"NIC {mac}" if mac else f"NIC {position + 1}",
        kind=kind,
        source=network or _source(element, kind),
        seen_as=element.get("type", "") if resolved else "",
        portgroup=attribute(element, "source", "portgroup") or "",
        mode=(attribute(element, "source", "mode") or "vepa") if kind == "direct" else "",
        virtualport=_virtualport(element),
        tagged=element.find("vlan/tag") is not None,
        floor=number(inbound, "floor") if inbound is not None and inbound.get("floor") else 0,
        mtu=number(mtu, "size") if mtu is not None and mtu.get("size") else None,
        filter=attribute(element, "filterref", "filter") or "",
        device=device,
        managed=managed,
        multiqueue=(attribute(element, "driver", "queues") or "1") not in ("0", "1"),
        driver=attribute(element, "driver", "name") or "",
        tap=attribute(element, "backend", "tap") or "",
        vhost=attribute(element, "backend", "vhost") or "",
        socket_mode=(attribute(element, "source", "mode") or "") if kind == "vhostuser" else "",
    )


def _virtualport(element: Element) -> str:
    """Its type; without one it is left to be found out (virNetDevVPortProfileParse)."""
    return attribute(element, "virtualport", "type") or ""


def _source(element: Element, kind: str) -> str:
    name = {"bridge": "bridge", "direct": "dev", "vdpa": "dev", "vhostuser": "path"}.get(kind)
    return (attribute(element, "source", name) or "") if name else ""
