"""What the host says of graphics servers, and has of what they name."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from virt_preflight.agent.fact import Pace, Unknown, have, look
from virt_preflight.agent.families.certificates import SERVER, Certificates, certificates_for
from virt_preflight.agent.families.chardevs.host import could_listen, kinds_of
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.graphics.guest import GuestGraphics, Server
from virt_preflight.agent.sources import Absent, Source
from virt_preflight.agent.unlisted import unlisted
from virt_preflight.agent.xml import attribute, parse

# Of networks with these modes libvirt takes the address that their XML names.
ADDRESSED_MODES = ("", "nat", "route", "open")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGraphics:
    """What qemu.conf says of servers: where they listen by default, and whether with TLS."""

    address_by_kind: Mapping[str, str]
    with_tls: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphicsCertificates:
    """The certificates of the servers that have TLS on."""

    by_kind: Mapping[str, Certificates]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGraphics:
    """What is there of what the servers name.

    `fault_by_network`: "" when libvirt can take an address from it.
    """

    kind_by_path: Mapping[str, str | Unknown] = field(default_factory=dict)
    local_by_address: Mapping[str, bool | Unknown] = field(default_factory=dict)
    free_by_end: Mapping[tuple[str, int], bool | Unknown] = field(default_factory=dict)
    fault_by_network: Mapping[str, str | Unknown] = field(default_factory=dict)


@have(Pace.FIXED)
def host_graphics(conf: QemuConf) -> HostGraphics:
    """vnc_listen, vnc_tls and their like for spice."""
    return HostGraphics(
        address_by_kind={
            kind: conf.string(f"{kind}_listen") or "127.0.0.1" for kind in ("vnc", "spice")
        },
        with_tls=frozenset(
            kind for kind in ("vnc", "spice") if conf.flag(f"{kind}_tls", default=False)
        ),
    )


@have(Pace.FIXED)
def graphics_certificates(
    source: Source, conf: QemuConf, host: HostGraphics, qemu: QemuUser
) -> GraphicsCertificates:
    """QEMU reads them as the user that it runs as."""
    return GraphicsCertificates(
        by_kind={
            kind: certificates_for(kind, SERVER, source, conf, qemu)
            for kind in sorted(host.with_tls)
        }
    )


@look(Pace.MOVING)
def seen_graphics(source: Source, guest: GuestGraphics, host: HostGraphics) -> SeenGraphics:
    """Addresses, ports, networks, sockets and render nodes, each only if the guest names some."""
    paths = {server.render_node for server in guest.servers if server.render_node}
    paths |= {posixpath.dirname(server.socket) for server in guest.servers if server.socket}
    ends = {(listening(server, host), port) for server in guest.servers for port in server.ports}
    addresses = {server.address for server in guest.servers if server.address}
    networks = {server.network for server in guest.servers if server.network}
    return SeenGraphics(
        kind_by_path=kinds_of(source, sorted(paths)),
        local_by_address={
            address: could_listen(source, address, 0) for address in sorted(addresses)
        },
        free_by_end={end: could_listen(source, *end) for end in sorted(ends)},
        fault_by_network=_faults(source, networks) if networks else {},
    )


def listening(server: Server, host: HostGraphics) -> str:
    """The address that it would listen on; a network's is not known beforehand."""
    if server.network:
        return "0.0.0.0"  # noqa: S104 - compared with, never bound
    return server.address or host.address_by_kind.get(server.kind, "127.0.0.1")


def _faults(source: Source, networks: set[str]) -> Mapping[str, str | Unknown]:
    """Why libvirt finds no address in each of them (qemuProcessGetNetworkAddress)."""
    xml_by_name = {item["name"]: item["xml"] for item in json.loads(source.libvirt("networks"))}
    faults: dict[str, str | Unknown] = {}
    for name in sorted(networks):
        if name not in xml_by_name:
            doubt = unlisted(source, "network-named", name)
            faults[name] = "no network of that name" if doubt is None else doubt
            continue
        network = parse(xml_by_name[name])
        mode = "" if network.find("forward") is None else attribute(network, "forward", "mode")
        # <forward/> without a mode is nat.
        if (mode or "") in ADDRESSED_MODES:
            faults[name] = "it has no IP address" if network.find("ip") is None else ""
        else:
            faults[name] = _fault_of_link(source, attribute(network, "bridge", "name") or "")
    return faults


def _fault_of_link(source: Source, name: str) -> str:
    """Of a network that is a bridge of the host's it takes that one's address."""
    if not name:
        return ""
    try:
        source.stat(f"/sys/class/net/{name}")
    except Absent:
        return f"there is no bridge {name}"
    return ""
