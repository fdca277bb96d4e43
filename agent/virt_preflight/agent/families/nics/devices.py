"""Devices and filters that a guest's NICs need beside a bridge."""

from __future__ import annotations

import shlex

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.nics.guest import GuestFilters
from virt_preflight.agent.families.nics.host import TAPPED, TUN, VHOST_NET, Link, NicPlugs, needed
from virt_preflight.agent.families.nics.libvirt import HostFilters
from virt_preflight.agent.families.nics.plugged import as_seen, links, named, unread
from virt_preflight.agent.report import Phase, Severity

QUEUES = {"single": "one queue", "multiple": "several queues"}
MODULES = {TUN: "tun", VHOST_NET: "vhost_net"}


@check(
    "nics.lower-device-absent",
    Severity.BLOCKER,
    title="device for macvtap absent",
    remedy="Give the device its name, or give the NIC another: virsh migrate --xml.",
)
def lower_device_absent(host: NicPlugs) -> Problems:
    """A direct NIC names a device of the host, and hosts name theirs differently.

    Error: "Unable to get index for interface eth9: No such device" (virNetDevMacVLanCreate), or
    "Cannot get interface MAC on 'eth8': No such device" in passthrough mode.
    """
    yield from unread(host, "direct")
    for found, link in links(host, "direct"):
        if link is None:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"device {named(found)}",
                found="no device of that name",
            )


@check(
    "nics.lower-device-busy",
    Severity.BLOCKER,
    title="device for macvtap busy",
    remedy="Use a device that is in no bridge, bond or switch; in passthrough mode one per guest.",
)
def lower_device_busy(host: NicPlugs) -> Problems:
    """A port of a bridge, bond or Open vSwitch takes no macvtap; passthrough bears no second one.

    Error (tried): "error creating macvtap interface macvtap5@eth0 (...): Device or resource busy",
    "...: Invalid argument" (virNetDevMacVLanCreate).
    """
    for found, link in links(host, "direct"):
        if link is None:
            continue
        mode = found.network.mode if found.network else found.nic.mode
        wanted = f"device {named(found)} free for macvtap"
        if link.held_by:
            yield Problem(
                subject=found.nic.subject, wanted=wanted, found=f"a port of {link.held_by}"
            )
        elif mode != "passthrough" and link.passthroughs:
            yield Problem(
                subject=found.nic.subject,
                wanted=wanted,
                found=f"held in passthrough mode by {', '.join(link.passthroughs)}",
            )
        elif mode == "passthrough" and link.macvtaps:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"{wanted} in passthrough mode",
                found=f"used by {', '.join(link.macvtaps)}",
            )


@check(
    "nics.lower-device-without-carrier",
    Severity.RISK,
    title="the device for macvtap has no carrier",
    remedy="Look at its cable, its switch port, or the device below it.",
    phase=Phase.AFTER,
)
def lower_device_without_carrier(host: NicPlugs) -> Problems:
    """libvirt brings a device up that is down, but cannot give it a carrier: the guest is deaf.

    virDomainInterfaceStartDevice (hypervisor/domain_interface.c).
    """
    for found, link in links(host, "direct"):
        if link is not None and link.up and not link.carrier:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"device {named(found)} with a carrier",
                found="up, without carrier",
            )


@check(
    "nics.name-taken",
    Severity.BLOCKER,
    title="NIC's name taken",
    remedy="Remove that device, or give the NIC another target dev: virsh migrate --xml.",
)
def name_taken(host: NicPlugs) -> Problems:
    """A name that was chosen for the NIC's device is asked for on each host.

    Names that libvirt made up (vnet, macvtap) stay behind. Error (tried): "The web1 interface
    already exists".
    """
    for found in host.plugs:
        name = found.nic.device
        if not name or not found.nic.managed or found.kind not in (*TAPPED, "direct"):
            continue
        link = host.link_by_name.get(name)
        if isinstance(link, Unknown):
            yield CouldNotTell(subject=found.nic.subject, why=link.why)
        elif link is not None:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"the name {name} free",
                found="a device of that name",
                commands=(f"ip -d link show {shlex.quote(name)}",),
            )


@check(
    "nics.tap-absent",
    Severity.BLOCKER,
    title="the tap that the NIC is to use is missing",
    remedy="Make the device before the guest comes.",
)
def tap_absent(host: NicPlugs) -> Problems:
    """With `<target managed='no'>` somebody else makes the device.

    Error (tried): "target managed='no' but specified dev doesn't exist"
    (virDomainInterfaceEthernetConnect).
    """
    for found in host.plugs:
        name = found.nic.device
        if found.nic.managed or not name or found.kind != "ethernet":
            continue
        link = host.link_by_name.get(name)
        if isinstance(link, Unknown):
            yield CouldNotTell(subject=found.nic.subject, why=link.why)
        elif link is None:
            yield Problem(
                subject=found.nic.subject, wanted=f"device {name}", found="no device of that name"
            )


@check(
    "nics.tap-unfit",
    Severity.BLOCKER,
    title="the tap that the NIC is to use will not do",
    remedy="Make the device anew, with multi_queue where the NIC has several queues, and end who "
    "has it open.",
)
def tap_unfit(host: NicPlugs) -> Problems:
    """libvirt opens the device of a `<target managed='no'>` as the NIC is: with queues or not.

    Errors (tried): "Unable to create tap device web1: Invalid argument" where it was made
    otherwise, "Unable to create tap device web1: Device or resource busy" where somebody has it.
    """
    for found in host.plugs:
        name = found.nic.device
        if found.nic.managed or not name or found.kind != "ethernet":
            continue
        link = host.link_by_name.get(name)
        if not isinstance(link, Link) or not link.tap:
            continue
        wanted = "multiple" if found.nic.multiqueue else "single"
        if link.tap != wanted:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"tap {name} for {QUEUES[wanted]}",
                found=f"one for {QUEUES[link.tap]}",
                commands=(f"ip -d link show {shlex.quote(name)}",),
            )
        elif link.tap == "single" and link.opened:
            yield Problem(
                subject=found.nic.subject,
                wanted=f"tap {name} in nobody's use",
                found="somebody has it open",
            )


@check(
    "nics.no-device-node",
    Severity.BLOCKER,
    title="device node for the NIC absent",
    remedy="Load the kernel module, or start the program, that makes it.",
)
def no_device_node(host: NicPlugs) -> Problems:
    """Taps need /dev/net/tun, vhost by name /dev/vhost-net, vDPA its device, vhost-user its socket.

    Error: "Unable to open /dev/net/tun, is tun module loaded?: No such file or directory",
    "vhost-net was requested for an interface, but is unavailable", "Unable to open '...' for vdpa
    device", "Failed to connect to '...': No such file or directory". A macvtap's node is made with
    it where /dev is a devtmpfs; elsewhere udev must be there in time, and nobody can tell: "cannot
    open macvtap tap device /dev/tap27" (tried).
    """
    for found in host.plugs:
        dev = host.dev_file_system
        if found.kind == "direct" and dev != "devtmpfs":
            why = dev.why if isinstance(dev, Unknown) else f"who makes /dev/tapN: /dev is a {dev}"
            yield CouldNotTell(subject=found.nic.subject, why=why)
        for path in needed(found):
            if path not in host.missing_by_path:
                continue
            unknown = host.missing_by_path[path]
            if unknown is not None:
                yield CouldNotTell(subject=found.nic.subject, why=unknown.why)
                continue
            module = MODULES.get(path)
            yield Problem(
                subject=found.nic.subject,
                wanted=path,
                found="it is not there",
                commands=(f"modprobe {module}",) if module else (),
            )


@check(
    "nics.filter-unsupported",
    Severity.BLOCKER,
    title="network filter unsupported",
    remedy="Make the network the same on both hosts, or take the filter off the NIC.",
)
def filter_unsupported(host: NicPlugs) -> Problems:
    """Only taps on bridges of the kernel can be filtered: no macvtap, no Open vSwitch.

    Error: "interface 52:54:00:... - filterref is not supported for network interfaces of type
    direct", "... with virtualport type openvswitch" (qemuDomainValidateActualNetDef).
    """
    for found in host.plugs:
        if not found.nic.filter or found.unplugged:
            continue
        if found.kind not in TAPPED:
            here = as_seen(found.kind)
        elif found.virtualport:
            here = f"virtualport {found.virtualport}"
        else:
            continue
        yield Problem(
            subject=found.nic.subject, wanted=f"network filter {found.nic.filter}", found=here
        )


@check(
    "nics.filter-absent",
    Severity.BLOCKER,
    title="network filter absent",
    remedy="Define the filter on this host as it is on the source.",
)
def filter_absent(guest: GuestFilters, host: HostFilters) -> Problems:
    """A NIC's nwfilter is looked up by name, and so is each filter that it includes.

    Error (tried): "internal error: referenced filter 'inner' is missing"
    (virNWFilterObjListFindInstantiateFilter).
    """
    for subject, wanted in guest.references:
        waiting, seen = [(wanted, "")], set()
        while waiting:
            name, by = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            match host.included_by_name.get(name):
                case None:
                    quoted = shlex.quote(name)
                    yield Problem(
                        subject=subject,
                        wanted=f"filter {name}" + (f", which {by} includes" if by else ""),
                        found="no filter of that name",
                        commands=(
                            f"virsh -c SOURCE_URI nwfilter-dumpxml {quoted} > filter.xml",
                            "virsh nwfilter-define filter.xml",
                        ),
                    )
                case Unknown(why):
                    yield CouldNotTell(subject=subject, why=why)
                case included:
                    waiting += [(inner, name) for inner in included]
