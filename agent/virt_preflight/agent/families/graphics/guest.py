"""The graphics servers and video cards of a guest."""

from __future__ import annotations

from dataclasses import dataclass

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import need
from virt_preflight.agent.xml import Element, attribute

# What libvirt makes of a directory of its own for each run of a guest.
OWN_SOCKET = "/var/lib/libvirt/qemu/domain-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One graphics server: vnc, spice, or something local as sdl.

    `address` is empty where the host's own configuration decides; `ports` are the fixed ones.
    """

    kind: str
    address: str = ""
    network: str = ""
    socket: str = ""
    ports: tuple[int, ...] = ()
    render_node: str = ""
    wants_tls: str = ""  # why only TLS will do
    offers: bool = True  # it listens at all

    @property
    def subject(self) -> str:
        """As the operator would name it."""
        return f"graphics {self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestGraphics:
    """A guest with a screen: its servers and the models of its video cards."""

    servers: tuple[Server, ...]
    videos: tuple[str, ...]


@need
def guest_graphics(domain: Domain) -> GuestGraphics | None:
    """`<graphics>` and `<video>`; ports that libvirt gives out (autoport) are not asked for."""
    servers = tuple(_server(element) for element in domain.root.findall("devices/graphics"))
    videos = tuple(model.get("type", "") for model in domain.root.findall("devices/video/model"))
    if not (servers or videos):
        return None
    return GuestGraphics(servers=servers, videos=tuple(dict.fromkeys(filter(None, videos))))


def _server(element: Element) -> Server:
    kind = element.get("type", "")
    listen = element.find("listen")
    # XML that is sent is written for old libvirts too: a lone socket is an attribute there.
    lone = "socket" if element.get("socket") else "address"
    way = lone if listen is None else listen.get("type", "address")
    shown = element if listen is None else listen
    address = shown.get("address" if listen is not None else "listen", "")
    names = {"vnc": ("port",), "spice": ("port", "tlsPort")}.get(kind, ())
    if element.get("autoport") == "yes":
        names = ()
    if kind == "vnc":
        names += ("websocket",)  # which autoport does not speak of: there -1 means libvirt's choice
    numbers = [
        int(text) for name in names if (text := element.get(name, "")).isascii() and text.isdigit()
    ]
    socket = shown.get("socket", "") if way == "socket" else ""
    return Server(
        kind=kind,
        address=address if way == "address" else "",
        network=shown.get("network", "") if way == "network" else "",
        socket="" if socket.startswith(OWN_SOCKET) else socket,
        ports=tuple(port for port in numbers if 0 < port < 65536)
        if way in ("address", "network")
        else (),
        render_node=attribute(element, "gl", "rendernode") or "",
        wants_tls=_wants_tls(element) if kind == "spice" else "",
        offers=way != "none" and kind in ("vnc", "spice"),
    )


def _wants_tls(spice: Element) -> str:
    """qemuBuildGraphicsSPICECommandLine and qemuProcessSPICEAllocatePorts (qemu/)."""
    if spice.get("autoport") != "yes" and (spice.get("tlsPort") or "-1") not in ("-1", "0"):
        return f"tlsPort {spice.get('tlsPort')}"
    if spice.get("defaultMode") == "secure":
        return "defaultMode secure"
    for channel in spice.findall("channel[@mode='secure']"):
        return f"secure channel {channel.get('name')}"
    return ""
