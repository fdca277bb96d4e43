"""The bridges that a guest's NICs are plugged into: the kernel's, and Open vSwitch's."""

from __future__ import annotations

import shlex

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.nics.host import Link, NicPlugs, Plug
from virt_preflight.agent.families.nics.plugged import BRIDGED, as_seen, links, named, unread
from virt_preflight.agent.report import Phase, Severity

# BR_MAX_PORTS, net/bridge/br_private.h: 1 << 10.
BRIDGE_PORTS = 1024
# "support vlans on standard Linux host bridges", libvirt's news of 11.0.0.
VLANS_ON_BRIDGES = 11_000_000


@check(
    "nics.bridge-absent",
    Severity.BLOCKER,
    title="bridge absent",
    remedy="Make the bridge on this host and connect it as on the source: without an uplink the "
    "guest comes, and is alone. Or give the NIC another: virsh migrate --xml.",
)
def bridge_absent(host: NicPlugs) -> Problems:
    """The bridge is looked up by name, a bridge of Open vSwitch too.

    Error: "Cannot get interface MTU on 'br9': No such device" (virNetDevTapAttachBridge).
    """
    yield from unread(host, *BRIDGED)
    for found, link in links(host, *BRIDGED):
        if link is None:
            name = shlex.quote(found.device)
            switched = found.virtualport == "openvswitch"
            made = f"ovs-vsctl add-br {name}" if switched else f"ip link add {name} type bridge"
            yield Problem(
                subject=found.nic.subject,
                wanted=f"bridge {named(found)}",
                found="no device of that name",
                commands=(made, f"ip link set {name} up"),
            )


@check(
    "nics.not-a-bridge",
    Severity.BLOCKER,
    title="not a bridge",
    remedy="Give the bridge its name, or give the NIC another: virsh migrate --xml.",
)
def not_a_bridge(host: NicPlugs) -> Problems:
    """A NIC without virtualport is added to a bridge of the kernel, which it then must be.

    Error: "Unable to add bridge br7 port vnet10: Operation not supported" (virNetDevBridgeAddPort).
    A bridge of Open vSwitch needs `<virtualport type='openvswitch'/>`.
    """
    for found, link in links(host, *BRIDGED):
        if link is None or link.kind == "bridge" or found.virtualport:
            continue
        if found.virtualport is None:
            why = f"{found.device} is no bridge of the kernel; whether the NIC has a virtualport"
            why += " of its own is not in the live XML"
            yield CouldNotTell(subject=found.nic.subject, why=why)
            continue
        switched = isinstance(host.switches, frozenset) and found.device in host.switches
        yield Problem(
            subject=found.nic.subject,
            wanted=f"{named(found)}: a bridge of the kernel",
            found="a bridge of Open vSwitch" if switched else "another kind of device",
            remedy="Give the NIC, or its network, <virtualport type='openvswitch'/>."
            if switched
            else None,
        )


@check(
    "nics.not-an-ovs-bridge",
    Severity.BLOCKER,
    title="no bridge of Open vSwitch of that name",
    remedy="Make the bridge in Open vSwitch, or give the NIC another: virsh migrate --xml.",
)
def not_an_ovs_bridge(host: NicPlugs) -> Problems:
    """A NIC with an openvswitch virtualport is added by ovs-vsctl.

    Error: "internal error: Unable to add port vnet7 to OVS bridge br0"
    (virNetDevOpenvswitchAddPort, util/virnetdevopenvswitch.c).
    """
    for found, link in links(host, "bridge"):
        if link is None:
            continue
        if found.virtualport is None and link.kind == "bridge":
            why = f"{found.device} is a bridge of the kernel; whether the NIC has a virtualport"
            why += " of its own is not in the live XML"
            yield CouldNotTell(subject=found.nic.subject, why=why)
        if found.virtualport != "openvswitch":
            continue
        wanted = f"{named(found)}: a bridge of Open vSwitch"
        subject = found.nic.subject
        match host.switches:
            case Unknown(why):
                yield CouldNotTell(subject=subject, why=why)
            case None:
                yield Problem(subject=subject, wanted=wanted, found="no Open vSwitch on this host")
            case str(words):
                yield Problem(
                    subject=subject,
                    wanted=wanted,
                    found=f"Open vSwitch does not answer: {words}",
                    remedy="Start Open vSwitch on this host.",
                )
            case names if found.device not in names:
                kernel = "a bridge of the kernel" if link.kind == "bridge" else "no such bridge"
                yield Problem(subject=subject, wanted=wanted, found=kernel)


@check(
    "nics.bridge-down",
    Severity.RISK,
    title="the bridge is down",
    remedy="Bring the bridge up.",
    phase=Phase.AFTER,
)
def bridge_down(host: NicPlugs) -> Problems:
    """A guest moves to a bridge that is down (tried), and nobody hears it there.

    Open vSwitch's own device may be down: its ports are not.
    """
    for found, link in links(host, *BRIDGED):
        if link is not None and link.kind == "bridge" and not link.up:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"bridge {named(found)} up",
                found="down",
                commands=(f"ip link set {shlex.quote(found.device)} up",),
            )


@check(
    "nics.smaller-mtu",
    Severity.RISK,
    title="smaller MTU",
    remedy="Give the bridge and its uplink the MTU that they have on the source.",
    phase=Phase.AFTER,
)
def smaller_mtu(host: NicPlugs) -> Problems:
    """The guest was told its MTU; a bridge with a smaller one drops its larger frames.

    libvirt sets the tap's MTU and does not look at the bridge's: the guest moves (tried).
    """
    for found, link in links(host, *BRIDGED):
        if link is None or link.kind != "bridge" or found.nic.mtu is None:
            continue
        if found.nic.mtu > link.mtu:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"MTU {found.nic.mtu} on bridge {named(found)}",
                found=f"MTU {link.mtu}",
                commands=(f"ip link set {shlex.quote(found.device)} mtu {found.nic.mtu}",),
            )


@check(
    "nics.bridge-full",
    Severity.BLOCKER,
    title="bridge full",
    remedy="Use another bridge, or move another guest away first.",
)
def bridge_full(host: NicPlugs) -> Problems:
    """A bridge of the kernel has at most 1024 ports.

    Error: "Unable to add bridge br0 port vnet9: Exchange full" (virNetDevBridgeAddPort).
    """
    wanted_by_bridge: dict[str, int] = {}
    for found, link in links(host, *BRIDGED):
        if link is None or link.kind != "bridge":
            continue
        wanted = wanted_by_bridge[found.device] = wanted_by_bridge.get(found.device, 0) + 1
        if link.ports + wanted > BRIDGE_PORTS:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"a free port on bridge {named(found)}",
                found=f"{link.ports} of {BRIDGE_PORTS} taken",
            )


@check(
    "nics.vlan-unsupported",
    Severity.BLOCKER,
    title="the NIC's VLANs cannot be had there",
    remedy="Use Open vSwitch, a bridge for the VLAN, or libvirt 11.0 with VLAN-aware bridges.",
)
def vlan_unsupported(host: NicPlugs) -> Problems:
    """`<vlan>` needs Open vSwitch, an SR-IOV device, or since libvirt 11.0 a bridge of the kernel.

    The kernel must then have VLAN filtering; if the bridge has it off, the guest moves and its
    frames are not tagged: a risk. Error: "interface 52:54:00:... - vlan tag not supported for this
    connection type" (virDomainActualNetDefValidate), or "error adding vlan filter to interface
    vnet10: Operation not supported".
    """
    for found in host.plugs:
        if found.tagged is False or found.unplugged:
            continue
        problem = _vlans(found, host)
        if problem is None:
            continue
        if isinstance(problem, Problem) and found.tagged is None:
            why = f"whether its VLANs are its own is not in the live XML; here: {problem.found}"
            yield CouldNotTell(subject=found.nic.subject, why=why)
            continue
        yield problem


def _vlans(found: Plug, host: NicPlugs) -> Problem | CouldNotTell | None:
    wanted = "VLAN tags"
    subject = found.nic.subject
    mode = found.network.mode if found.network else found.nic.mode
    if found.kind == "hostdev" or (found.kind == "direct" and mode == "passthrough"):
        return None
    if found.kind != "bridge":
        return Problem(subject=subject, wanted=wanted, found=as_seen(found.kind))
    if found.virtualport == "openvswitch":
        return None
    version = host.libvirt_version
    if isinstance(version, Unknown):
        return CouldNotTell(subject=subject, why=version.why)
    if version is not None and version < VLANS_ON_BRIDGES:
        told = f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
        found_here = f"a bridge of the kernel, and libvirt {told}"
        return Problem(subject=subject, wanted=wanted, found=found_here)
    link = host.link_by_name.get(found.device)
    if not isinstance(link, Link) or link.kind != "bridge" or link.vlan_filtering == "1":
        return None
    name = shlex.quote(found.device)
    if link.vlan_filtering == "0":
        return Problem(
            subject=subject,
            wanted=wanted,
            found=f"bridge {found.device} has VLAN filtering off",
            severity=Severity.RISK,
            commands=(f"ip link set {name} type bridge vlan_filtering 1",),
        )
    return Problem(subject=subject, wanted=wanted, found="a kernel without VLAN filtering")
