"""Network interfaces: what a guest's are plugged into, and what the host has of it."""

from __future__ import annotations

from virt_preflight.agent.families.nics.bridges import (
    bridge_down,
    bridge_full,
    no_such_bridge,
    not_a_bridge,
    not_an_ovs_bridge,
    smaller_mtu,
    vlan_unsupported,
)
from virt_preflight.agent.families.nics.devices import (
    filter_unsupported,
    lower_device_busy,
    lower_device_without_carrier,
    name_taken,
    no_device_node,
    no_such_filter,
    no_such_lower_device,
    no_such_tap,
)
from virt_preflight.agent.families.nics.guest import (
    GuestFilters,
    GuestNic,
    GuestNics,
    guest_filters,
    guest_nics,
)
from virt_preflight.agent.families.nics.host import (
    Link,
    NicPlugs,
    Plug,
    nic_plugs,
    plug,
)
from virt_preflight.agent.families.nics.libvirt import (
    HostFilters,
    HostNetworks,
    Network,
    Pooled,
    Portgroup,
    host_filters,
    host_networks,
    read_network,
)
from virt_preflight.agent.families.nics.networks import (
    network_inactive,
    network_of_another_kind,
    no_bandwidth_floor,
    no_such_network,
    no_such_portgroup,
    pool_exhausted,
    virtualport_unsupported,
)

__all__ = [
    "GuestFilters",
    "GuestNic",
    "GuestNics",
    "HostFilters",
    "HostNetworks",
    "Link",
    "Network",
    "NicPlugs",
    "Plug",
    "Pooled",
    "Portgroup",
    "bridge_down",
    "bridge_full",
    "filter_unsupported",
    "guest_filters",
    "guest_nics",
    "host_filters",
    "host_networks",
    "lower_device_busy",
    "lower_device_without_carrier",
    "name_taken",
    "network_inactive",
    "network_of_another_kind",
    "nic_plugs",
    "no_bandwidth_floor",
    "no_device_node",
    "no_such_bridge",
    "no_such_filter",
    "no_such_lower_device",
    "no_such_network",
    "no_such_portgroup",
    "no_such_tap",
    "not_a_bridge",
    "not_an_ovs_bridge",
    "plug",
    "pool_exhausted",
    "read_network",
    "smaller_mtu",
    "virtualport_unsupported",
    "vlan_unsupported",
]
