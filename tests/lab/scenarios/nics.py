"""Network interfaces, and what they are to be plugged into."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.guests import Nic
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "nic-bridge-absent",
        "nics.bridge-absent",
        guest=guest(nics=(Nic(bridge="br9"),)),
        on_source=(faults.bridge("br9"),),
        says="Cannot get interface MTU on 'br9': No such device",
    ),
    migrates(
        "nic-bridge-down",
        guest=guest(nics=(Nic(bridge="br9"),)),
        on_source=(faults.bridge("br9"),),
        on_destination=(faults.bridge("br9", state="down"),),
    ),
    fails(
        "nic-bridge-is-none",
        "nics.not-a-bridge",
        "nics.bridge-absent",
        guest=guest(nics=(Nic(bridge="br9"),)),
        on_source=(faults.bridge("br9"),),
        on_destination=(faults.link_that_is_no_bridge("br9"),),
        says="Unable to add bridge br9 port",
    ),
    migrates(
        "nic-mtu-smaller",
        guest=guest(nics=(Nic(bridge="br9", mtu=9000),)),
        on_source=(faults.bridge("br9", mtu=9000),),
        on_destination=(faults.bridge("br9"),),
    ),
    migrates(
        "nic-bridge-mtu-smaller",
        guest=guest(nics=(Nic(bridge="br9"),)),
        on_source=(faults.bridge("br9", mtu=9000),),
        on_destination=(faults.bridge("br9"),),
    ),
    fails(
        "nic-network-absent",
        "nics.network-absent",
        guest=guest(nics=(Nic(network="neta"),)),
        on_source=(faults.network("neta"),),
        says="no network with matching name 'neta'",
    ),
    fails(
        "nic-network-inactive",
        "nics.network-inactive",
        guest=guest(nics=(Nic(network="neta"),)),
        on_source=(faults.network("neta"),),
        on_destination=(faults.network("neta", state="inactive"),),
        says="network 'neta' is not active",
    ),
    fails(
        "nic-network-stopped",
        "nics.network-inactive",
        guest=guest(nics=(Nic(network="lan"),)),
        on_destination=(faults.lan_stopped(),),
        says="network 'lan' is not active",
    ),
    fails(
        "nic-network-without-bridge",
        "nics.bridge-absent",
        guest=guest(nics=(Nic(network="neta"),)),
        on_source=(faults.network("neta"),),
        on_destination=(faults.network("neta", onto="br9"),),
        says="br9",
    ),
    migrates(
        "nic-network-other-bridge",
        guest=guest(nics=(Nic(network="neta"),)),
        on_source=(faults.network("neta"),),
        on_destination=(faults.bridge("br8"), faults.network("neta", onto="br8")),
    ),
    # A group that is not there is no error: the network's own settings hold.
    migrates(
        "nic-portgroup-absent",
        guest=guest(nics=(Nic(network="neta", portgroup="fast"),)),
        on_source=(faults.network("neta", inside="<portgroup name='fast'/>"),),
        on_destination=(faults.network("neta"),),
    ),
    fails(
        "nic-nwfilter-absent",
        "nics.filter-absent",
        guest=guest(nics=(Nic(bridge="br0", nwfilter="only-here"),)),
        on_source=(faults.nwfilter("only-here"),),
        says="referenced filter 'only-here' is missing",
    ),
    migrates(
        "nic-nwfilter",
        guest=guest(nics=(Nic(bridge="br0", nwfilter="on-both"),)),
        **both(faults.nwfilter("on-both")),
    ),
    fails(
        "nic-direct-absent",
        "nics.lower-device-absent",
        guest=guest(nics=(Nic(bridge="br0"),)),
        rewrite=(
            ("<interface type='bridge'>", "<interface type='direct'>"),
            ("<source bridge='br0'/>", "<source dev='eth9' mode='bridge'/>"),
        ),
        says="eth9",
    ),
    fails(
        "nic-ovs-absent",
        "nics.not-an-ovs-bridge",
        guest=guest(nics=(Nic(bridge="br0"),)),
        rewrite=(
            ("<source bridge='br0'/>", "<source bridge='br0'/><virtualport type='openvswitch'/>"),
        ),
        says="to OVS bridge br0",
    ),
    fails(
        "nic-vlan-on-bridge",
        "nics.vlan-unsupported",
        guest=guest(nics=(Nic(bridge="br0"),)),
        rewrite=(("<source bridge='br0'/>", "<source bridge='br0'/><vlan><tag id='42'/></vlan>"),),
        says="vlan",
    ),
    migrates(
        "nic-rewritten-bridge",
        guest=guest(nics=(Nic(bridge="br9"),)),
        on_source=(faults.bridge("br9"),),
        rewrite=(("<source bridge='br9'/>", "<source bridge='br0'/>"),),
    ),
    migrates(
        "nic-ethernet",
        guest=guest(
            nics=(
                Nic(
                    whole="<interface type='ethernet'><model type='virtio'/>"
                    "<rom enabled='no'/></interface>"
                ),
            )
        ),
    ),
    migrates(
        "nic-user",
        guest=guest(nics=(Nic(whole="<interface type='user'><model type='virtio'/></interface>"),)),
    ),
    migrates(
        "nic-target-name",
        guest=guest(nics=(Nic(bridge="br0", inside="<target dev='tap-own'/>"),)),
    ),
    fails(
        "nic-target-taken",
        "nics.name-taken",
        guest=guest(nics=(Nic(bridge="br0", inside="<target dev='tap-own'/>"),)),
        on_destination=(faults.link_that_is_no_bridge("tap-own"),),
        says="tap-own",
    ),
    migrates(
        "nic-isolated",
        guest=guest(nics=(Nic(bridge="br0", inside="<port isolated='yes'/>"),)),
    ),
    migrates(
        "nic-queues",
        guest=guest(vcpus=2, nics=(Nic(bridge="br0", driver="<driver queues='2'/>"),)),
    ),
    migrates(
        "nic-network-of-another-kind",
        guest=guest(nics=(Nic(network="neta"),)),
        on_source=(faults.network("neta"),),
        on_destination=(
            faults.network(
                "neta",
                xml="<network><name>neta</name><bridge name='neta0' stp='off'/></network>",
            ),
        ),
    ),
    migrates(
        "nic-link-down",
        guest=guest(nics=(Nic(bridge="br0", inside="<link state='down'/>"),)),
    ),
    fails(
        "nic-link-down-bridge-absent",
        "nics.bridge-absent",
        guest=guest(nics=(Nic(bridge="br9", inside="<link state='down'/>"),)),
        on_source=(faults.bridge("br9"),),
        says="br9",
    ),
)
