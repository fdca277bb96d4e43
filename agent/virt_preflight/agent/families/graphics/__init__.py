"""Graphics: the servers that show a guest's screen, and the video cards that it has."""

from __future__ import annotations

from virt_preflight.agent.families.graphics.checks import (
    address_not_here,
    network_unusable,
    no_certificates,
    no_directory,
    no_render_node,
    not_offered,
    port_in_use,
    server_not_offered,
    spice_tls_off,
    video_not_offered,
)
from virt_preflight.agent.families.graphics.guest import GuestGraphics, Server, guest_graphics
from virt_preflight.agent.families.graphics.host import (
    GraphicsCertificates,
    HostGraphics,
    SeenGraphics,
    graphics_certificates,
    host_graphics,
    listening,
    seen_graphics,
)
from virt_preflight.agent.families.graphics.places import (
    GuestKeymaps,
    GuestSockets,
    SeenKeymaps,
    SeenSockets,
    directory_shut,
    guest_keymaps,
    guest_sockets,
    keymap_absent,
    port_reserved,
    seen_keymaps,
    seen_sockets,
)

__all__ = (
    "GraphicsCertificates",
    "GuestGraphics",
    "GuestKeymaps",
    "GuestSockets",
    "HostGraphics",
    "SeenGraphics",
    "SeenKeymaps",
    "SeenSockets",
    "Server",
    "address_not_here",
    "directory_shut",
    "graphics_certificates",
    "guest_graphics",
    "guest_keymaps",
    "guest_sockets",
    "host_graphics",
    "keymap_absent",
    "listening",
    "network_unusable",
    "no_certificates",
    "no_directory",
    "no_render_node",
    "not_offered",
    "port_in_use",
    "port_reserved",
    "seen_graphics",
    "seen_keymaps",
    "seen_sockets",
    "server_not_offered",
    "spice_tls_off",
    "video_not_offered",
)
