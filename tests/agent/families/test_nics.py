from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families import nics
from virt_preflight.agent.families.nics import (
    GuestFilters,
    GuestNic,
    GuestNics,
    GuestShaping,
    HostFilters,
    HostShaping,
    Link,
    NicPlugs,
    Plug,
    Pooled,
    filter_absent,
    guest_filters,
    guest_nics,
    guest_shaping,
    host_filters,
    host_networks,
    host_shaping,
    nic_plugs,
    no_traffic_control,
    read_network,
)
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import FileStat, Refused, SourceError, Unreadable

MAC = "52:54:00:09:aa:4e"
NIC = f"NIC {MAC}"
PORT = "portid='4d904877-d93c-45d8-ac19-b360d46e75db'"
SYS = "/sys/class/net"
# As libvirt 9.0 and 11.3 write a running guest's NIC of the network "lan", which is a bridge.
LIVE = (
    f"<source network='lan' {PORT} bridge='br0'/><target dev='vnet1'/>"
    "<model type='virtio'/><alias name='net0'/>"
)
LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"
NAT = "<network><name>lan</name><forward/><bridge name='virbr0'/></network>"
OVS = (
    "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/>"
    "<virtualport type='openvswitch'/></network>"
)
ISOLATED = "<network><name>lan</name><bridge name='virbr0'/>{}</network>"
POOL = (
    "<network connections='1'><name>lan</name><forward dev='eth8' mode='passthrough'>"
    "<interface dev='eth8' connections='1'/><interface dev='eth9'/></forward></network>"
)

BRIDGE = ("bridge", "brif", "flags", "mtu", "operstate", "upper_vlan7")
OTHER = ("flags", "mtu", "operstate")

Check = Callable[[NicPlugs], Problems]


def interface(inside: str, type_: str = "bridge", domain: str = "kvm") -> GuestNics:
    found = guest_nics(
        read_domain(
            f"<domain type='{domain}'><name>g</name><devices><interface type='{type_}'>"
            f"<mac address='{MAC}'/>{inside}</interface></devices></domain>"
        )
    )
    assert found is not None
    return found


def nic(inside: str, type_: str = "bridge") -> GuestNic:
    (found,) = interface(inside, type_).nics
    return found


def device(names: tuple[str, ...], *, up: bool = True, mtu: int = 1500) -> Mapping[str, object]:
    return {"names": names, "flags": "0x1003\n" if up else "0x1002\n", "mtu": f"{mtu}\n"}


def host(
    links: Mapping[str, Mapping[str, object]],
    *,
    networks: Iterable[str] | SourceError = (),
    active: bool = True,
    switches: str | SourceError | None = None,
    nodes: tuple[str, ...] = ("/dev/net/tun",),
    version: int = 9_000_000,
    extra: Mapping[str, str] | None = None,
    directories: Mapping[str, tuple[str, ...]] | None = None,
) -> FakeSource:
    texts = dict(extra or {})
    for name, link in links.items():
        texts[f"{SYS}/{name}/flags"] = str(link["flags"])
        texts[f"{SYS}/{name}/mtu"] = str(link["mtu"])
        texts.setdefault(f"{SYS}/{name}/operstate", "up\n")
    answer: str | SourceError
    if isinstance(networks, SourceError):
        answer = networks
    else:
        answer = json.dumps(
            [{"name": "lan", "active": active, "bridge": "", "xml": xml} for xml in networks]
        )
    brif = {f"{SYS}/{name}/brif": ("eth0",) for name in links}
    named = {f"{SYS}/{name}": link["names"] for name, link in links.items()}
    node = FileStat(kind="char", size_bytes=0, mode=0o666, uid=0, gid=0, device=1, inode=1)
    source = FakeSource(
        texts=texts,
        directories={**brif, **named, **(directories or {})},  # type: ignore[dict-item]
        stats=dict.fromkeys(nodes, node),
        answers={
            ("networks",): answer,
            ("version",): json.dumps({"libvirt": version, "qemu": 7_002_000}),
        },
    )
    if switches is not None:
        source = replace(source, switches=switches)
    return source


def plugs(guest: GuestNics, source: FakeSource) -> NicPlugs:
    return nic_plugs(source, guest, host_networks(source))


def found(check: Check, guest: GuestNics, source: FakeSource) -> list[Problem | CouldNotTell]:
    return list(check(plugs(guest, source)))


BR0 = {"br0": device(BRIDGE)}
ON_BR0 = interface("<source bridge='br0'/>")
ON_LAN = interface(LIVE)
NO_SWITCH: Mapping[str, Mapping[str, object]] = {"br0": device(OTHER)}


# ---------------------------------------------------------------------------------- what it needs


def test_a_nic_on_a_bridge_is_read() -> None:
    assert nic("<source bridge='br0'/><target dev='vnet0'/><mtu size='9000'/>") == GuestNic(
        subject=NIC, kind="bridge", source="br0", mtu=9000
    )


def test_a_live_nic_of_a_network_goes_to_the_network_and_not_to_the_bridge() -> None:
    assert nic(LIVE) == GuestNic(subject=NIC, kind="network", source="lan", seen_as="bridge")


def test_a_nic_of_a_network_that_is_not_live_has_all_as_its_own() -> None:
    assert nic("<source network='lan' portgroup='web'/>", "network") == GuestNic(
        subject=NIC, kind="network", source="lan", portgroup="web"
    )


def test_only_a_name_that_was_chosen_goes_along() -> None:
    assert nic("<source bridge='br0'/><target dev='web1'/>").device == "web1"
    assert nic("<source bridge='br0'/><target dev='macvtap3'/>").device == ""


def test_a_device_that_somebody_else_makes_goes_along_whatever_its_name() -> None:
    unmanaged = nic("<target dev='vnet7' managed='no'/>", "ethernet")
    assert (unmanaged.device, unmanaged.managed) == ("vnet7", False)


def test_without_kvm_nobody_asks_for_vhost() -> None:
    asked = "<source bridge='br0'/><driver name='vhost'/>"
    assert interface(asked).nics[0].driver == "vhost"
    assert interface(asked, domain="qemu").nics[0].driver == ""


def test_a_guest_without_nics_has_none() -> None:
    assert guest_nics(read_domain("<domain><name>g</name></domain>")) is None
    assert guest_filters(read_domain("<domain><name>g</name></domain>")) is None


def test_filters_are_read_with_their_nics() -> None:
    domain = read_domain(
        "<domain><name>g</name><devices><interface type='bridge'>"
        f"<mac address='{MAC}'/><source bridge='br0'/><filterref filter='clean-traffic'/>"
        "</interface></devices></domain>"
    )
    assert guest_filters(domain) == GuestFilters(references=((NIC, "clean-traffic"),))


# ------------------------------------------------------------------------------- what the host has


def test_a_network_is_read_from_its_xml() -> None:
    network = read_network(POOL, active=True)
    assert network.mode == "passthrough"
    assert network.pool == (
        Pooled(name="eth8", connections=1),
        Pooled(name="eth9", connections=0),
    )
    assert read_network(NAT, active=True).mode == "nat"
    assert read_network(ISOLATED.format(""), active=True).mode == ""


def test_one_network_that_cannot_be_read_does_not_hide_the_others() -> None:
    answer = json.dumps(
        [
            {"name": "lan", "active": True, "bridge": "br0", "xml": LAN},
            {"name": "bad", "active": True, "bridge": "", "xml": "<network>"},
        ]
    )
    by_name = host_networks(FakeSource(answers={("networks",): answer})).by_name
    assert not isinstance(by_name, Unknown)
    assert isinstance(by_name["bad"], Unknown)
    assert not isinstance(by_name["lan"], Unknown)


def test_a_bridge_is_looked_at() -> None:
    assert plugs(ON_BR0, host(BR0)).link_by_name == {
        "br0": Link(up=True, mtu=1500, kind="bridge", ports=1)
    }


def test_a_network_is_followed_to_the_bridge_that_it_has_here() -> None:
    other = "<network><name>lan</name><forward mode='bridge'/><bridge name='br5'/></network>"
    (plug,) = plugs(ON_LAN, host(BR0, networks=[other])).plugs
    assert (plug.kind, plug.device) == ("bridge", "br5")


def test_a_passthrough_network_gives_its_first_free_device() -> None:
    (plug,) = plugs(ON_LAN, host({}, networks=[POOL])).plugs
    assert (plug.kind, plug.device) == ("direct", "eth9")


def test_a_name_that_is_a_path_is_no_device() -> None:
    guest = interface("<source bridge='../../etc'/>")
    assert plugs(guest, host({})).link_by_name == {"../../etc": None}


def test_filters_are_read_with_what_they_include() -> None:
    xml = "<filter name='outer'><filterref filter='inner'/><rule action='drop'/></filter>"
    answer = json.dumps([{"name": "outer", "xml": xml}])
    source = FakeSource(answers={("nwfilters",): answer})
    assert host_filters(source, GuestFilters(references=())) == HostFilters(
        included_by_name={"outer": ("inner",)}
    )


def test_filters_that_we_are_not_shown_are_left_open() -> None:
    xml = "<filter name='outer'><filterref filter='inner'/></filter>"
    source = FakeSource(
        answers={
            ("nwfilters",): json.dumps([{"name": "outer", "xml": xml}]),
            ("nwfilter-named", "inner"): Unreadable("no right"),
        }
    )
    guest = GuestFilters(references=((NIC, "outer"), (NIC, "none")))
    assert host_filters(source, guest) == HostFilters(
        included_by_name={"outer": ("inner",), "inner": Unknown("no right")}
    )


# ------------------------------------------------------------------------------- networks: checks


def test_a_network_that_is_not_there_is_refused() -> None:
    (problem,) = found(nics.network_absent, ON_LAN, host({}))
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.wanted) == (NIC, "network lan")


def test_a_network_that_we_are_not_shown_is_left_open() -> None:
    hidden = host({})
    answers = {**hidden.answers, ("network-named", "lan"): Unreadable("no right")}
    (left,) = found(nics.network_absent, ON_LAN, replace(hidden, answers=answers))
    assert isinstance(left, CouldNotTell)
    assert (left.subject, left.why) == (NIC, "no right")


def test_hostile_names_are_quoted_in_commands() -> None:
    guest = interface("<source network='a; rm -rf /'/>", "network")
    (problem,) = found(nics.network_absent, guest, host({}))
    assert isinstance(problem, Problem)
    assert "virsh net-start 'a; rm -rf /'" in problem.commands


def test_a_libvirt_that_does_not_name_its_networks_leaves_it_open() -> None:
    source = host(BR0, networks=Unreadable("no answer"))
    (left,) = found(nics.network_absent, ON_LAN, source)
    assert isinstance(left, CouldNotTell)
    assert not found(nics.network_absent, ON_BR0, source)


def test_an_inactive_network_is_refused() -> None:
    (problem,) = found(nics.network_inactive, ON_LAN, host(BR0, networks=[LAN], active=False))
    assert isinstance(problem, Problem)
    assert problem.commands[0] == "virsh net-start lan"


def test_an_active_network_is_fine() -> None:
    assert not found(nics.network_inactive, ON_LAN, host(BR0, networks=[LAN]))


def test_a_network_of_another_kind_is_a_risk() -> None:
    (problem,) = found(nics.network_of_another_kind, ON_LAN, host({}, networks=[NAT]))
    assert isinstance(problem, Problem)
    assert problem.found == "a network with NAT"


def test_a_network_of_the_same_kind_is_fine() -> None:
    assert not found(nics.network_of_another_kind, ON_LAN, host(BR0, networks=[LAN]))


def test_a_port_group_that_is_not_there_is_a_risk() -> None:
    guest = interface("<source network='lan' portgroup='web'/>", "network")
    (problem,) = found(nics.portgroup_absent, guest, host(BR0, networks=[LAN]))
    assert isinstance(problem, Problem)
    assert problem.found == "no port groups"


def test_a_port_group_that_is_there_is_fine() -> None:
    guest = interface("<source network='lan' portgroup='web'/>", "network")
    grouped = LAN.replace("</network>", "<portgroup name='web'/></network>")
    assert not found(nics.portgroup_absent, guest, host(BR0, networks=[grouped]))


def test_a_virtualport_of_its_own_is_refused_by_a_routed_network() -> None:
    guest = interface("<source network='lan'/><virtualport type='openvswitch'/>", "network")
    (problem,) = found(nics.virtualport_unsupported, guest, host({}, networks=[NAT]))
    assert isinstance(problem, Problem)
    assert problem.found == "a network with NAT"
    assert not found(nics.virtualport_unsupported, guest, host(BR0, networks=[LAN]))


def test_a_virtualport_of_the_sources_network_may_stay_behind() -> None:
    guest = interface(f"{LIVE}<virtualport type='openvswitch'/>")
    (left,) = found(nics.virtualport_unsupported, guest, host({}, networks=[NAT]))
    assert isinstance(left, CouldNotTell)


@pytest.mark.parametrize(
    ("inside", "fits"),
    [
        ("", False),
        ("<bandwidth><inbound average='1000'/></bandwidth>", True),
        ("<bandwidth><inbound average='50' peak='200'/></bandwidth>", True),
        ("<bandwidth><inbound average='50'/></bandwidth>", False),
    ],
)
def test_a_floor_needs_inbound_bandwidth(inside: str, *, fits: bool) -> None:
    floor = "<bandwidth><inbound average='500' floor='100'/></bandwidth>"
    guest = interface(f"<source network='lan'/>{floor}", "network")
    source = host({}, networks=[ISOLATED.format(inside)])
    assert bool(found(nics.no_bandwidth_floor, guest, source)) is not fits


def test_a_bridge_guarantees_no_floor() -> None:
    floor = "<bandwidth><inbound average='500' floor='100'/></bandwidth>"
    guest = interface(f"<source network='lan'/>{floor}", "network")
    assert found(nics.no_bandwidth_floor, guest, host(BR0, networks=[LAN]))


def test_a_pool_with_a_free_device_is_enough_for_one_nic() -> None:
    assert not found(nics.pool_exhausted, ON_LAN, host({}, networks=[POOL]))
    both = GuestNics(nics=ON_LAN.nics * 2)
    (problem,) = found(nics.pool_exhausted, both, host({}, networks=[POOL]))
    assert isinstance(problem, Problem)
    assert problem.found == "1 free of 2"


def test_a_macvtap_network_without_devices_is_refused() -> None:
    empty = "<network><name>lan</name><forward mode='private'/></network>"
    (problem,) = found(nics.pool_exhausted, ON_LAN, host({}, networks=[empty]))
    assert isinstance(problem, Problem)


def test_functions_that_are_not_listed_leave_it_open() -> None:
    sriov = "<network><name>lan</name><forward mode='hostdev'><pf dev='eth3'/></forward></network>"
    (left,) = found(nics.pool_exhausted, ON_LAN, host({}, networks=[sriov]))
    assert isinstance(left, CouldNotTell)


# -------------------------------------------------------------------------------- bridges: checks


def test_a_bridge_that_is_not_there_is_refused() -> None:
    (problem,) = found(nics.bridge_absent, ON_BR0, host({}))
    assert isinstance(problem, Problem)
    assert problem.commands == ("ip link add br0 type bridge", "ip link set br0 up")
    assert not found(nics.bridge_absent, ON_BR0, host(BR0))


def test_the_bridge_of_a_network_may_be_missing_too() -> None:
    (problem,) = found(nics.bridge_absent, ON_LAN, host({}, networks=[LAN]))
    assert isinstance(problem, Problem)
    assert problem.wanted == "bridge br0 of network lan"


def test_a_bridge_that_cannot_be_read_leaves_it_open() -> None:
    unread = NicPlugs(
        plugs=(Plug(nic=ON_BR0.nics[0], kind="bridge", device="br0"),),
        link_by_name={"br0": Unknown("br0: no answer")},
    )
    assert list(nics.bridge_absent(unread)) == [CouldNotTell(subject=NIC, why="br0: no answer")]
    assert not list(nics.not_a_bridge(unread))


def test_a_device_that_is_no_bridge_is_refused() -> None:
    (problem,) = found(nics.not_a_bridge, ON_BR0, host(NO_SWITCH))
    assert isinstance(problem, Problem)
    assert problem.found == "another kind of device"
    assert not found(nics.not_a_bridge, ON_BR0, host(BR0))


def test_a_bridge_of_open_vswitch_needs_its_virtualport() -> None:
    source = host(NO_SWITCH, switches="br-int\nbr0\n")
    (problem,) = found(nics.not_a_bridge, ON_BR0, source)
    assert isinstance(problem, Problem)
    assert problem.found == "a bridge of Open vSwitch"
    assert problem.remedy is not None
    switched = interface("<source bridge='br0'/><virtualport type='openvswitch'/>")
    assert not found(nics.not_a_bridge, switched, source)
    assert not found(nics.not_an_ovs_bridge, switched, source)


def test_an_openvswitch_virtualport_needs_a_bridge_of_open_vswitch() -> None:
    switched = interface("<source bridge='br0'/><virtualport type='openvswitch'/>")
    (problem,) = found(nics.not_an_ovs_bridge, switched, host(BR0))
    assert isinstance(problem, Problem)
    assert problem.found == "no Open vSwitch on this host"
    (problem,) = found(nics.not_an_ovs_bridge, switched, host(BR0, switches="br-int\n"))
    assert isinstance(problem, Problem)
    assert problem.found == "a bridge of the kernel"
    refused = Refused("database connection failed")
    (problem,) = found(nics.not_an_ovs_bridge, switched, host(BR0, switches=refused))
    assert isinstance(problem, Problem)
    assert "database connection failed" in problem.found
    (left,) = found(nics.not_an_ovs_bridge, switched, host(BR0, switches=Unreadable("late")))
    assert isinstance(left, CouldNotTell)


def test_the_networks_virtualport_is_the_nics() -> None:
    assert not found(
        nics.not_an_ovs_bridge, ON_LAN, host(NO_SWITCH, networks=[OVS], switches="br0\n")
    )
    assert found(nics.not_an_ovs_bridge, ON_LAN, host(BR0, networks=[OVS]))


def test_whose_virtualport_it_was_may_not_be_known() -> None:
    guest = interface(f"{LIVE}<virtualport type='openvswitch'/>")
    (left,) = found(nics.not_an_ovs_bridge, guest, host(BR0, networks=[LAN]))
    assert isinstance(left, CouldNotTell)
    (left,) = found(nics.not_a_bridge, guest, host(NO_SWITCH, networks=[LAN]))
    assert isinstance(left, CouldNotTell)


def test_a_bridge_that_is_down_is_a_risk() -> None:
    (problem,) = found(nics.bridge_down, ON_BR0, host({"br0": device(BRIDGE, up=False)}))
    assert isinstance(problem, Problem)
    assert problem.commands == ("ip link set br0 up",)
    assert not found(nics.bridge_down, ON_BR0, host(BR0))


def test_open_vswitchs_own_device_may_be_down() -> None:
    switched = interface("<source bridge='br0'/><virtualport type='openvswitch'/>")
    source = host({"br0": device(OTHER, up=False)}, switches="br0\n")
    assert not found(nics.bridge_down, switched, source)


def test_a_bridge_with_a_smaller_mtu_is_a_risk() -> None:
    guest = interface("<source bridge='br0'/><mtu size='9000'/>")
    (problem,) = found(nics.smaller_mtu, guest, host(BR0))
    assert problem == Problem(
        subject=NIC,
        wanted="MTU 9000 on bridge br0",
        found="MTU 1500",
        commands=("ip link set br0 mtu 9000",),
    )


def test_a_bridge_with_the_guests_mtu_is_fine() -> None:
    guest = interface("<source bridge='br0'/><mtu size='9000'/>")
    assert not found(nics.smaller_mtu, guest, host({"br0": device(BRIDGE, mtu=9000)}))
    assert not found(nics.smaller_mtu, ON_BR0, host(BR0))


def test_a_full_bridge_takes_nobody() -> None:
    taken = {f"{SYS}/br0/brif": tuple(f"vnet{port}" for port in range(1023))}
    source = host(BR0, directories=taken)
    (problem,) = found(nics.bridge_full, GuestNics(nics=ON_BR0.nics * 2), source)
    assert isinstance(problem, Problem)
    assert problem.found == "1023 of 1024 taken"


def test_the_last_port_of_a_bridge_is_a_port() -> None:
    taken = {f"{SYS}/br0/brif": tuple(f"vnet{port}" for port in range(1023))}
    assert not found(nics.bridge_full, ON_BR0, host(BR0, directories=taken))


TAGGED = interface("<source bridge='br0'/><vlan><tag id='7'/></vlan>")


def test_vlans_on_a_bridge_need_libvirt_11() -> None:
    (problem,) = found(nics.vlan_unsupported, TAGGED, host(BR0))
    assert isinstance(problem, Problem)
    assert problem.found == "a bridge of the kernel, and libvirt 9.0.0"


def test_vlans_on_a_bridge_need_a_kernel_that_filters() -> None:
    (problem,) = found(nics.vlan_unsupported, TAGGED, host(BR0, version=11_003_000))
    assert isinstance(problem, Problem)
    assert problem.found == "a kernel without VLAN filtering"


def test_a_bridge_that_does_not_filter_is_a_risk() -> None:
    def filtering(value: str) -> FakeSource:
        extra = {f"{SYS}/br0/bridge/vlan_filtering": f"{value}\n"}
        return host(BR0, version=11_003_000, extra=extra)

    (problem,) = found(nics.vlan_unsupported, TAGGED, filtering("0"))
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.RISK
    assert not found(nics.vlan_unsupported, TAGGED, filtering("1"))


def test_vlans_need_no_more_than_open_vswitch() -> None:
    guest = interface(
        "<source bridge='br0'/><virtualport type='openvswitch'/><vlan><tag id='7'/></vlan>"
    )
    assert not found(nics.vlan_unsupported, guest, host(NO_SWITCH, switches="br0\n"))


def test_a_routed_network_has_no_vlans() -> None:
    guest = interface("<source network='lan'/><vlan><tag id='7'/></vlan>", "network")
    assert found(nics.vlan_unsupported, guest, host({}, networks=[NAT]))
    (left,) = found(
        nics.vlan_unsupported,
        interface(f"{LIVE}<vlan><tag id='7'/></vlan>"),
        host({}, networks=[NAT]),
    )
    assert isinstance(left, CouldNotTell)


# -------------------------------------------------------------------------------- devices: checks


def direct(mode: str = "bridge") -> GuestNics:
    return interface(f"<source dev='eth1' mode='{mode}'/>", "direct")


def test_a_lower_device_that_is_not_there_is_refused() -> None:
    (problem,) = found(nics.lower_device_absent, direct(), host({}))
    assert isinstance(problem, Problem)
    assert problem.wanted == "device eth1"


def test_a_lower_device_that_is_there_is_fine() -> None:
    assert not found(nics.lower_device_absent, direct(), host({"eth1": device(OTHER)}))


@pytest.mark.parametrize(
    ("inside", "holder"),
    [("brport", "a bridge"), ("bonding_slave", "a bond")],
)
def test_a_port_of_somebody_else_takes_no_macvtap(inside: str, holder: str) -> None:
    source = host({"eth1": device((*OTHER, inside, "master"))})
    (problem,) = found(nics.lower_device_busy, direct(), source)
    assert isinstance(problem, Problem)
    assert problem.found == f"a port of {holder}"


def test_passthrough_wants_the_device_for_itself() -> None:
    names = (*OTHER, "upper_mv0", "upper_eth1.7")
    source = host(
        {"eth1": device(names)},
        extra={
            f"{SYS}/eth1/address": "26:fd:71:ac:57:36\n",
            f"{SYS}/mv0/address": "56:db:60:3f:54:08\n",
        },
        directories={f"{SYS}/mv0": ("macvtap", "tap7"), f"{SYS}/eth1.7": OTHER},
    )
    (problem,) = found(nics.lower_device_busy, direct("passthrough"), source)
    assert isinstance(problem, Problem)
    assert problem.found == "used by mv0"
    assert not found(nics.lower_device_busy, direct("bridge"), source)


def test_a_device_that_is_held_in_passthrough_mode_takes_nobody_else() -> None:
    addresses = {f"{SYS}/eth1/address": "52:54:00:11:22:33\n"}
    inside = {f"{SYS}/mv0": ("macvtap", "tap7")}

    def with_upper(address: str) -> FakeSource:
        extra = {**addresses, f"{SYS}/mv0/address": f"{address}\n"}
        return host({"eth1": device((*OTHER, "upper_mv0"))}, extra=extra, directories=inside)

    (problem,) = found(nics.lower_device_busy, direct(), with_upper("52:54:00:11:22:33"))
    assert isinstance(problem, Problem)
    assert problem.found == "held in passthrough mode by mv0"
    assert not found(nics.lower_device_busy, direct(), with_upper("56:db:60:3f:54:08"))


def test_a_lower_device_without_carrier_is_a_risk() -> None:
    dead = {f"{SYS}/eth1/operstate": "down\n"}
    up = host({"eth1": device(OTHER)}, extra=dead)
    assert found(nics.lower_device_without_carrier, direct(), up)


def test_a_lower_device_that_is_down_is_brought_up_by_libvirt() -> None:
    dead = {f"{SYS}/eth1/operstate": "down\n"}
    down = host({"eth1": device(OTHER, up=False)}, extra=dead)
    assert not found(nics.lower_device_without_carrier, direct(), down)


def test_a_name_that_is_taken_is_refused() -> None:
    guest = interface("<source bridge='br0'/><target dev='web1'/>")
    taken = {**BR0, "web1": device(OTHER)}
    (problem,) = found(nics.name_taken, guest, host(taken))
    assert isinstance(problem, Problem)
    assert problem.wanted == "the name web1 free"
    assert not found(nics.name_taken, guest, host(BR0))
    assert not found(nics.name_taken, interface(LIVE), host({"vnet1": device(OTHER)}))


def test_a_tap_that_somebody_else_makes_must_be_there() -> None:
    guest = interface("<target dev='web1' managed='no'/>", "ethernet")
    assert found(nics.tap_absent, guest, host({}))


def test_a_tap_that_somebody_else_has_made_is_fine() -> None:
    guest = interface("<target dev='web1' managed='no'/>", "ethernet")
    assert not found(nics.tap_absent, guest, host({"web1": device(OTHER)}))
    assert not found(nics.name_taken, guest, host({"web1": device(OTHER)}))


def test_taps_need_the_tun_module() -> None:
    (problem,) = found(nics.no_device_node, ON_BR0, host(BR0, nodes=()))
    assert isinstance(problem, Problem)
    assert (problem.wanted, problem.commands) == ("/dev/net/tun", ("modprobe tun",))
    assert not found(nics.no_device_node, ON_BR0, host(BR0))
    assert not found(nics.no_device_node, interface("", "user"), host({}, nodes=()))


def test_a_macvtaps_node_is_made_where_dev_is_a_devtmpfs() -> None:
    def on(file_system: str) -> FakeSource:
        made = host({"eth1": device(OTHER)})
        return replace(made, file_systems={"/dev": file_system})

    assert not found(nics.no_device_node, direct(), on("devtmpfs"))
    (left,) = found(nics.no_device_node, direct(), on("tmpfs"))
    assert left == CouldNotTell(subject=NIC, why="who makes /dev/tapN: /dev is a tmpfs")


def test_vhost_is_needed_only_when_asked_for_by_name() -> None:
    asked = interface("<source bridge='br0'/><driver name='vhost'/>")
    (problem,) = found(nics.no_device_node, asked, host(BR0))
    assert isinstance(problem, Problem)
    assert problem.wanted == "/dev/vhost-net"


def test_a_vhost_user_client_needs_its_socket() -> None:
    client = interface("<source type='unix' path='/run/vh/a' mode='client'/>", "vhostuser")
    server = interface("<source type='unix' path='/run/vh/a' mode='server'/>", "vhostuser")
    assert found(nics.no_device_node, client, host({}))
    assert not found(nics.no_device_node, client, host({}, nodes=("/run/vh/a",)))
    assert not found(nics.no_device_node, server, host({}))


def test_a_filter_needs_a_tap_on_a_bridge_of_the_kernel() -> None:
    filtered = "<filterref filter='clean-traffic'/>"
    on_switch = interface(f"<source bridge='br0'/><virtualport type='openvswitch'/>{filtered}")
    assert found(nics.filter_unsupported, on_switch, host(NO_SWITCH, switches="br0\n"))


def test_macvtap_has_no_filters() -> None:
    filtered = "<filterref filter='clean-traffic'/>"
    on_macvtap = interface(f"{LIVE}{filtered}")
    assert found(nics.filter_unsupported, on_macvtap, host({}, networks=[POOL]))
    assert not found(nics.filter_unsupported, on_macvtap, host(BR0, networks=[LAN]))


FILTERED = GuestFilters(references=((NIC, "outer"),))


def test_a_filter_that_is_included_must_be_there_too() -> None:
    (problem,) = filter_absent(FILTERED, HostFilters(included_by_name={"outer": ("inner",)}))
    assert isinstance(problem, Problem)
    assert problem.wanted == "filter inner, which outer includes"


def test_filters_that_include_one_another_are_fine() -> None:
    host_has = HostFilters(included_by_name={"outer": ("inner",), "inner": ("outer",)})
    assert not list(filter_absent(FILTERED, host_has))


def test_a_filter_that_cannot_be_read_leaves_it_open() -> None:
    (left,) = filter_absent(FILTERED, HostFilters(included_by_name={"outer": Unknown("bad")}))
    assert isinstance(left, CouldNotTell)


# -------------------------------------------------------------------------------------- bandwidth


def shaped(bandwidth: str, type_: str = "bridge") -> GuestShaping | None:
    return guest_shaping(
        read_domain(
            f"<domain><name>g</name><devices><interface type='{type_}'>"
            f"<bandwidth>{bandwidth}</bandwidth></interface></devices></domain>"
        )
    )


def test_each_direction_needs_modules_of_its_own() -> None:
    assert shaped("<inbound average='1000'/>") == GuestShaping(
        modules=("sch_htb", "sch_sfq", "cls_fw")
    )
    assert shaped("<outbound average='1000'/>") == GuestShaping(
        modules=("sch_ingress", "cls_u32", "act_police")
    )
    assert shaped("<inbound floor='100'/>") is None
    assert shaped("<inbound average='1000'/>", "user") is None


def test_modules_are_looked_for_beside_the_kernel() -> None:
    lists = "/lib/modules/6.1.0-49-amd64/modules"
    texts = {
        "/proc/sys/kernel/osrelease": "6.1.0-49-amd64\n",
        f"{lists}.builtin": "kernel/net/sched/cls_fw.ko\n",
        f"{lists}.dep": "kernel/net/sched/sch_htb.ko.xz:\nkernel/net/sched/sch_sfqx.ko:\n",
    }
    guest = shaped("<inbound average='1000'/>")
    assert guest is not None
    assert host_shaping(FakeSource(texts=texts), guest) == HostShaping(
        release="6.1.0-49-amd64", missing=("sch_sfq",)
    )
    with pytest.raises(Unreadable):
        host_shaping(FakeSource(texts={"/proc/sys/kernel/osrelease": "6.18\n"}), guest)


def test_a_kernel_that_cannot_shape_is_refused() -> None:
    guest = GuestShaping(modules=("sch_htb", "sch_sfq"))
    (problem,) = no_traffic_control(guest, HostShaping(release="6.18", missing=("sch_sfq",)))
    assert isinstance(problem, Problem)
    assert problem.found == "kernel 6.18 has no sch_sfq"


def test_a_kernel_that_can_shape_is_fine() -> None:
    guest = GuestShaping(modules=("sch_htb", "sch_sfq"))
    assert not list(no_traffic_control(guest, HostShaping(release="6.18", missing=())))


def tap(flags: str, carrier: str) -> FakeSource:
    made = device(("flags", "mtu", "operstate", "tun_flags"))
    extra = {f"{SYS}/web1/tun_flags": flags, f"{SYS}/web1/carrier": carrier}
    return host({"web1": made}, extra=extra)


OURS = interface("<target dev='web1' managed='no'/>", "ethernet")
QUEUED = interface("<target dev='web1' managed='no'/><driver queues='2'/>", "ethernet")


def test_a_tap_has_to_be_made_for_as_many_queues_as_the_nic_has() -> None:
    (several,) = found(nics.tap_unfit, OURS, tap("0x1102", "0"))
    assert isinstance(several, Problem)
    assert (several.wanted, several.found) == ("tap web1 for one queue", "one for several queues")
    (single,) = found(nics.tap_unfit, QUEUED, tap("0x1002", "0"))
    assert isinstance(single, Problem)
    assert single.found == "one for one queue"


def test_a_tap_that_somebody_has_open_is_not_the_guests() -> None:
    (problem,) = found(nics.tap_unfit, OURS, tap("0x1002", "1"))
    assert isinstance(problem, Problem)
    assert problem.found == "somebody has it open"


def test_a_tap_of_that_kind_in_nobodys_use_is_fine() -> None:
    assert not found(nics.tap_unfit, OURS, tap("0x1002", "0"))
    assert not found(nics.tap_unfit, QUEUED, tap("0x1102", "1"))
    assert not found(nics.tap_unfit, OURS, tap("0x1001", "1"))
    assert not found(nics.tap_unfit, OURS, host({"web1": device(OTHER)}))
    assert not found(nics.tap_unfit, interface("<target dev='web1'/>"), tap("0x1102", "1"))
