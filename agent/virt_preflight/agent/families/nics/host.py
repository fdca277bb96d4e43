"""What a host has to plug a guest's NICs into: links, and Open vSwitch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from virt_preflight.agent.fact import Pace, Unknown, look
from virt_preflight.agent.families.nics.guest import GuestNic, GuestNics
from virt_preflight.agent.families.nics.libvirt import ROUTED, HostNetworks, Network, Portgroup
from virt_preflight.agent.sources import Absent, Refused, Source, SourceError
from virt_preflight.agent.unlisted import unlisted

LINKS = "/sys/class/net"
# net_device flags, include/uapi/linux/if.h.
IFF_UP = 0x1
TUN = "/dev/net/tun"
IFF_TAP, IFF_MULTI_QUEUE = 0x0002, 0x0100
VHOST_NET = "/dev/vhost-net"
TAPPED = ("bridge", "network", "ethernet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device of the host, as far as a guest's NIC minds."""

    up: bool
    mtu: int
    # "bridge" of the kernel, or "" for anything else.
    kind: str = ""
    # Who has the device and lets no macvtap have it: "a bridge", "a bond", "Open vSwitch" or "".
    held_by: str = ""
    carrier: bool = True
    ports: int = 0
    # Uppers that are macvtap, and those of them that hold the device in passthrough mode.
    macvtaps: tuple[str, ...] = ()
    passthroughs: tuple[str, ...] = ()
    # bridge/vlan_filtering: "0", "1", or "" when the kernel cannot do it.
    vlan_filtering: str = ""
    # Of a tap: whether it was made for several queues, and whether somebody has it open.
    tap: Literal["", "single", "multiple"] = ""
    opened: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """Where a NIC would be plugged in.

    `kind` is what libvirt makes of it here (bridge, network, direct, hostdev, or the NIC's own);
    `device` the bridge or the lower device, "" for none. `virtualport` and `tagged` are the
    guest's own and the network's together; None: nobody can tell from a live XML.
    `unplugged`: the network is absent or inactive, or nobody can tell.
    """

    nic: GuestNic
    kind: str = ""
    device: str = ""
    network: Network | None = None
    virtualport: str | None = ""
    tagged: bool | None = False
    unplugged: Literal["", "absent", "inactive"] | Unknown = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicPlugs:
    """Where all NICs would be plugged in, and the links by name: None when there is no such link.

    `switches` are Open vSwitch's bridges: None without Open vSwitch, a reason when it said no.
    """

    plugs: tuple[Plug, ...]
    link_by_name: Mapping[str, Link | Unknown | None]
    switches: frozenset[str] | Unknown | str | None = None
    # Files that a NIC needs and that are not there; Unknown when nobody can tell.
    missing_by_path: Mapping[str, Unknown | None] = field(default_factory=dict)
    # The file system of /dev, when a NIC needs the node of a macvtap there.
    dev_file_system: str | Unknown = ""
    libvirt_version: int | Unknown | None = None


@look(Pace.MOVING)
def nic_plugs(source: Source, guest: GuestNics, networks: HostNetworks) -> NicPlugs:
    """Follow each NIC to its bridge or lower device, and look at those devices alone."""
    plugs = tuple(_beyond_list(source, plug(nic, networks)) for nic in guest.nics)
    names = {found.device for found in plugs} | {nic.device for nic in guest.nics}
    link_by_name = {name: _link(source, name) for name in sorted(names - {""})}
    tagged = any(found.tagged is not False and found.kind == "bridge" for found in plugs)
    switched = any(
        found.virtualport or not _is_bridge(link_by_name.get(found.device))
        for found in plugs
        if found.kind == "bridge"
    )
    return NicPlugs(
        plugs=plugs,
        link_by_name=link_by_name,
        switches=_switches(source) if switched else None,
        missing_by_path=_missing(source, {path for found in plugs for path in needed(found)}),
        dev_file_system=_dev(source) if any(found.kind == "direct" for found in plugs) else "",
        libvirt_version=_version(source) if tagged else None,
    )


def _beyond_list(source: Source, found: Plug) -> Plug:
    """A network that is not listed may be one that we are not shown."""
    if found.unplugged != "absent":
        return found
    doubt = unlisted(source, "network-named", found.nic.source)
    return found if doubt is None else replace(found, unplugged=doubt)


def _is_bridge(link: Link | Unknown | None) -> bool:
    return isinstance(link, Link) and link.kind == "bridge"


def plug(nic: GuestNic, networks: HostNetworks) -> Plug:
    """What networkAllocatePort (network/bridge_driver.c) would make of it here."""
    if nic.kind != "network":
        return Plug(
            nic=nic,
            kind=nic.kind,
            device=nic.source if nic.kind in ("bridge", "direct") else "",
            virtualport=nic.virtualport,
            tagged=nic.tagged,
        )
    if isinstance(networks.by_name, Unknown):
        return Plug(nic=nic, unplugged=networks.by_name)
    network = networks.by_name.get(nic.source)
    if network is None:
        return Plug(nic=nic, unplugged="absent")
    if isinstance(network, Unknown):
        return Plug(nic=nic, unplugged=network)
    if not network.active:
        return Plug(nic=nic, unplugged="inactive", network=network)
    kind, device = _led_to(network)
    group = network.portgroups.get(nic.portgroup or network.default_portgroup, Portgroup())
    # What the source's network added is not sent, and what this one adds is.
    theirs = network.virtualport or group.virtualport
    tagged_here = network.tagged or group.tagged
    live = bool(nic.seen_as)
    virtualport: str | None = nic.virtualport or theirs
    if live and nic.virtualport and not theirs:
        virtualport = None
    tagged: bool | None = nic.tagged or tagged_here
    if live and nic.tagged and not tagged_here:
        tagged = None
    return Plug(
        nic=nic, kind=kind, device=device, network=network, virtualport=virtualport, tagged=tagged
    )


def _led_to(network: Network) -> tuple[str, str]:
    if network.mode in ROUTED:
        return "network", network.bridge
    if network.mode == "hostdev":
        return "hostdev", ""
    if network.mode == "bridge" and network.bridge:
        return "bridge", network.bridge
    free = [device for device in network.pool if not device.connections]
    if network.mode == "passthrough":
        return "direct", free[0].name if free else ""
    least = min(network.pool, key=lambda device: device.connections, default=None)
    return "direct", least.name if least else ""


def _link(source: Source, name: str) -> Link | Unknown | None:
    if "/" in name or name in (".", ".."):
        return None
    path = f"{LINKS}/{name}"
    try:
        names = set(source.names(path))
        macvtaps = _macvtaps(source, names)
        flags = int(source.text(f"{path}/flags").strip(), 16)
        return Link(
            up=bool(flags & IFF_UP),
            mtu=int(source.text(f"{path}/mtu")),
            kind="bridge" if "bridge" in names else "",
            held_by=_held_by(source, path, names),
            carrier="bridge" in names or _carrier(source, path),
            ports=len(source.names(f"{path}/brif")) if "brif" in names else 0,
            macvtaps=macvtaps,
            passthroughs=_passthroughs(source, path, macvtaps),
            vlan_filtering=_vlan_filtering(source, path) if "bridge" in names else "",
            tap=_tap(source, path) if "tun_flags" in names else "",
            opened="tun_flags" in names and bool(flags & IFF_UP) and _has_carrier(source, path),
        )
    except Absent:
        return None
    except SourceError as error:
        return Unknown(f"{name}: {error}")


def _tap(source: Source, path: str) -> Literal["", "single", "multiple"]:
    """As it was made (IFF_TAP, IFF_MULTI_QUEUE; linux/if_tun.h)."""
    flags = int(source.text(f"{path}/tun_flags").strip(), 16)
    if not flags & IFF_TAP:
        return ""
    return "multiple" if flags & IFF_MULTI_QUEUE else "single"


def _has_carrier(source: Source, path: str) -> bool:
    """A tap's cable is plugged in as long as somebody has it open."""
    return source.text(f"{path}/carrier").strip() == "1"


def _held_by(source: Source, path: str, names: set[str]) -> str:
    """Each device has room for one rx_handler (netdev_rx_handler_register, net/core/dev.c)."""
    if "brport" in names:
        return "a bridge"
    if "bonding_slave" in names:
        return "a bond"
    if "master" in names and source.link(f"{path}/master").endswith("/ovs-system"):
        return "Open vSwitch"
    return ""


def _carrier(source: Source, path: str) -> bool:
    return source.text(f"{path}/operstate").strip() not in ("down", "lowerlayerdown", "notpresent")


def _macvtaps(source: Source, names: set[str]) -> tuple[str, ...]:
    uppers = sorted(name.removeprefix("upper_") for name in names if name.startswith("upper_"))
    return tuple(upper for upper in uppers if "macvtap" in _names(source, f"{LINKS}/{upper}"))


def _passthroughs(source: Source, path: str, macvtaps: tuple[str, ...]) -> tuple[str, ...]:
    """In passthrough mode, and in no other, both have one address (tried; macvlan_addr_busy)."""
    if not macvtaps:
        return ()
    address = source.text(f"{path}/address").strip()
    return tuple(
        upper for upper in macvtaps if source.text(f"{LINKS}/{upper}/address").strip() == address
    )


def _names(source: Source, path: str) -> tuple[str, ...]:
    try:
        return source.names(path)
    except Absent:
        return ()


def _vlan_filtering(source: Source, path: str) -> str:
    """The file is there when the kernel has CONFIG_BRIDGE_VLAN_FILTERING."""
    try:
        return source.text(f"{path}/bridge/vlan_filtering").strip()
    except Absent:
        return ""


def _switches(source: Source) -> frozenset[str] | Unknown | str | None:
    try:
        return frozenset(source.open_vswitch().split())
    except Absent:
        return None
    except Refused as error:
        return str(error)
    except SourceError as error:
        return Unknown(f"Open vSwitch: {error}")


def needed(found: Plug) -> tuple[str, ...]:
    """Device nodes and sockets that must be there for this NIC."""
    nic = found.nic
    paths = []
    if found.kind in TAPPED:
        paths.append(nic.tap or TUN)
    # Only where it was asked for by name does libvirt insist (qemuInterfaceOpenVhostNet).
    if nic.driver == "vhost" and found.kind in (*TAPPED, "direct"):
        paths.append(nic.vhost or VHOST_NET)
    if nic.kind == "vdpa" or (nic.kind == "vhostuser" and nic.socket_mode == "client"):
        paths.append(nic.source)
    return tuple(path for path in paths if path)


def _missing(source: Source, paths: set[str]) -> Mapping[str, Unknown | None]:
    missing: dict[str, Unknown | None] = {}
    for path in sorted(paths):
        try:
            source.stat(path)
        except Absent:
            missing[path] = None
        except SourceError as error:
            missing[path] = Unknown(f"{path}: {error}")
    return missing


def _dev(source: Source) -> str | Unknown:
    try:
        return source.file_system("/dev")
    except SourceError as error:
        return Unknown(f"/dev: {error}")


def _version(source: Source) -> int | Unknown:
    try:
        return int(json.loads(source.libvirt("version"))["libvirt"])
    except (SourceError, KeyError, ValueError) as error:
        return Unknown(f"libvirt's version: {error}")
