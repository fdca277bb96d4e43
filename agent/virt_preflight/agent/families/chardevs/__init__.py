"""Serial ports, consoles, channels: the files, sockets and devices on the host that they end in."""

from __future__ import annotations

from virt_preflight.agent.families.chardevs.checks import (
    address_not_here,
    device_absent,
    file_emptied,
    no_directory,
    path_taken,
    peer_absent,
    port_in_use,
    port_reserved,
)
from virt_preflight.agent.families.chardevs.guest import (
    DeviceEnd,
    End,
    FileEnd,
    GuestChardevs,
    GuestPeers,
    SocketEnd,
    TcpEnd,
    UdpEnd,
    guest_chardevs,
    guest_peers,
)
from virt_preflight.agent.families.chardevs.host import (
    OpenPorts,
    SeenChardevs,
    could_listen,
    is_loopback,
    kinds_of,
    made_here,
    open_ports,
    seen_chardevs,
)

__all__ = (
    "DeviceEnd",
    "End",
    "FileEnd",
    "GuestChardevs",
    "GuestPeers",
    "OpenPorts",
    "SeenChardevs",
    "SocketEnd",
    "TcpEnd",
    "UdpEnd",
    "address_not_here",
    "could_listen",
    "device_absent",
    "file_emptied",
    "guest_chardevs",
    "guest_peers",
    "is_loopback",
    "kinds_of",
    "made_here",
    "no_directory",
    "open_ports",
    "path_taken",
    "peer_absent",
    "port_in_use",
    "port_reserved",
    "seen_chardevs",
)
