"""libvirt's networks that a guest's NICs belong to."""

from __future__ import annotations

import shlex

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.nics.host import NicPlugs
from virt_preflight.agent.families.nics.libvirt import ROUTED
from virt_preflight.agent.families.nics.plugged import FORWARDS_BY, as_seen
from virt_preflight.agent.report import Phase, Severity

MACVTAP_PORTS = ("802.1Qbg", "802.1Qbh")


@check(
    "nics.network-absent",
    Severity.BLOCKER,
    title="libvirt network absent",
    remedy="Define the network on this host as it is on the source, and start it.",
)
def network_absent(host: NicPlugs) -> Problems:
    """A NIC of a libvirt network is plugged in by name on the destination.

    Error: "Network not found: no network with matching name 'lan'".
    """
    for found in host.plugs:
        if isinstance(found.unplugged, Unknown):
            yield CouldNotTell(subject=found.nic.subject, why=found.unplugged.why)
        elif found.unplugged == "absent":
            name = shlex.quote(found.nic.source)
            yield Problem(
                subject=found.nic.subject,
                wanted=f"network {found.nic.source}",
                found="no network of that name",
                commands=(
                    f"virsh -c SOURCE_URI net-dumpxml --inactive {name} > network.xml",
                    "virsh net-define network.xml",
                    f"virsh net-start {name}",
                    f"virsh net-autostart {name}",
                ),
            )


@check(
    "nics.network-inactive",
    Severity.BLOCKER,
    title="the libvirt network is not active",
    remedy="Start the network, and let it start with the host.",
)
def network_inactive(host: NicPlugs) -> Problems:
    """libvirt starts no network for a guest.

    Error: "Requested operation is not valid: network 'lan' is not active" (networkAllocatePort).
    """
    for found in host.plugs:
        if found.unplugged == "inactive":
            name = shlex.quote(found.nic.source)
            yield Problem(
                subject=found.nic.subject,
                wanted=f"network {found.nic.source} active",
                found="inactive",
                commands=(f"virsh net-start {name}", f"virsh net-autostart {name}"),
            )


@check(
    "nics.network-of-another-kind",
    Severity.RISK,
    title="the network of that name leads elsewhere",
    remedy="Make the network the same on both hosts.",
    phase=Phase.AFTER,
)
def network_of_another_kind(host: NicPlugs) -> Problems:
    """libvirt compares nothing but the name: a bridge there may be NAT here.

    What the network made of the NIC on the source is in the live XML.
    """
    for found in host.plugs:
        was = found.nic.seen_as
        if was and found.network and not found.unplugged and found.kind != was:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"network {found.nic.source} as on the source: {as_seen(was)}",
                found=FORWARDS_BY.get(found.network.mode, as_seen(found.kind)),
            )


@check(
    "nics.portgroup-absent",
    Severity.RISK,
    title="the network has no such port group",
    remedy="Give the network the port group that it has on the source: virsh net-edit.",
    phase=Phase.AFTER,
)
def portgroup_absent(host: NicPlugs) -> Problems:
    """A port group that is not there is passed over in silence, with its VLANs and bandwidth.

    virPortGroupFindByName gives none, and networkAllocatePort goes on (tried).
    """
    for found in host.plugs:
        group = found.nic.portgroup
        if group and found.network and group not in found.network.portgroups:
            groups = ", ".join(sorted(found.network.portgroups))
            yield Problem(
                subject=found.nic.subject,
                wanted=f"port group {group} of network {found.nic.source}",
                found=f"port groups {groups}" if groups else "no port groups",
            )


@check(
    "nics.virtualport-unsupported",
    Severity.BLOCKER,
    title="the network takes no such virtualport",
    remedy="Make the network the same on both hosts.",
)
def virtualport_unsupported(host: NicPlugs) -> Problems:
    """Routed networks take no virtualport, bridges openvswitch only, macvtap and PCI 802.1Qb* only.

    Error: "<virtualport type='openvswitch'> not supported for network 'lan' which uses IP
    forwarding" (networkAllocatePort, network/bridge_driver.c).
    """
    for found in host.plugs:
        if found.network is None or found.unplugged:
            continue
        port = found.nic.virtualport if found.virtualport is None else found.virtualport
        allowed = {"network": (), "bridge": ("openvswitch",)}.get(found.kind, MACVTAP_PORTS)
        if not port or port in allowed:
            continue
        forwards = FORWARDS_BY.get(found.network.mode, as_seen(found.kind))
        if found.virtualport is None:
            yield CouldNotTell(
                subject=found.nic.subject,
                why=f"whether its {port} virtualport is its own, which {forwards} would refuse,"
                " is not in the live XML",
            )
            continue
        yield Problem(
            subject=found.nic.subject,
            wanted=f"virtualport {port} on network {found.nic.source}",
            found=forwards,
        )


@check(
    "nics.no-bandwidth-floor",
    Severity.BLOCKER,
    title="no guaranteed bandwidth",
    remedy="Give the network <bandwidth><inbound average=...>, or the NIC no floor.",
)
def no_bandwidth_floor(host: NicPlugs) -> Problems:
    """A floor needs a routed network with inbound bandwidth, and all floors together fit into it.

    Error: "Invalid use of 'floor' on interface with MAC address ... - network 'lan' has no inbound
    QoS set", "... would overcommit average=1000 on network 'lan'" (networkCheckBandwidth). What
    other guests have been promised is not counted.
    """
    floors: dict[str, int] = {}
    for found in host.plugs:
        network = found.network
        if not found.nic.floor or network is None or found.unplugged:
            continue
        subject = found.nic.subject
        wanted = f"at least {found.nic.floor} kB/s on network {found.nic.source}"
        if network.mode not in ROUTED:
            here = FORWARDS_BY.get(network.mode, as_seen(found.kind))
            yield Problem(subject=subject, wanted=wanted, found=f"{here}, which guarantees none")
            continue
        if network.inbound is None:
            yield Problem(subject=subject, wanted=wanted, found="no inbound bandwidth set")
            continue
        floors[found.nic.source] = floors.get(found.nic.source, 0) + found.nic.floor
        average, peak = network.inbound
        if floors[found.nic.source] > (peak or average):
            yield Problem(
                subject=subject,
                wanted=f"{floors[found.nic.source]} kB/s on network {found.nic.source} in all",
                found=f"{peak or average} kB/s",
            )


@check(
    "nics.pool-exhausted",
    Severity.BLOCKER,
    title="network's devices exhausted",
    remedy="Move a guest of that network away first, or add a device to the network.",
)
def pool_exhausted(host: NicPlugs) -> Problems:
    """Networks of PCI devices, or of macvtap in passthrough mode, have one device for each guest.

    Error: "network 'sriov' requires exclusive access to interfaces, but none are available", or
    "uses a direct mode, but has no forward dev and no interface pool" (networkAllocatePort).
    """
    wanted_by_network: dict[str, int] = {}
    for found in host.plugs:
        network = found.network
        if network is None or found.unplugged or found.kind not in ("direct", "hostdev"):
            continue
        subject, name = found.nic.subject, found.nic.source
        if not network.pool:
            if network.physical:
                why = f"network {name} does not list the functions of {network.physical}"
                yield CouldNotTell(subject=subject, why=why)
            else:
                yield Problem(subject=subject, wanted=f"a device of {name}", found="it has none")
            continue
        if found.kind == "direct" and network.mode != "passthrough":
            continue
        wanted = wanted_by_network[name] = wanted_by_network.get(name, 0) + 1
        free = sum(not device.connections for device in network.pool)
        if wanted > free:
            yield Problem(
                subject=subject,
                wanted=f"a free device of network {name}",
                found=f"{free} free of {len(network.pool)}",
            )
