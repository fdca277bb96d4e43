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

__all__ = (
    "GraphicsCertificates",
    "GuestGraphics",
    "HostGraphics",
    "SeenGraphics",
    "Server",
    "address_not_here",
    "graphics_certificates",
    "guest_graphics",
    "host_graphics",
    "listening",
    "network_unusable",
    "no_certificates",
    "no_directory",
    "no_render_node",
    "not_offered",
    "port_in_use",
    "seen_graphics",
    "server_not_offered",
    "spice_tls_off",
    "video_not_offered",
)
