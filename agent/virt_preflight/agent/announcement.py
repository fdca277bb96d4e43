"""What this host says of itself, and to which controllers: [announce] of agent.toml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from virt_preflight.agent.settings import AnnounceSettings, BadSettings
from virt_preflight.treaty.addresses import is_local, is_nowhere
from virt_preflight.treaty.words import is_host_name, is_ipv6, is_label

CONTROLLER_PORT = 50552


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Whom to tell, and what."""

    controllers: tuple[str, ...]
    name: str
    address: str
    labels: tuple[tuple[str, str], ...]


def announced(
    settings: AnnounceSettings, own_name: str, listen: Sequence[str]
) -> Announcement | None:
    """What is to be said, None where nobody is to be told. BadSettings names the key."""
    if not settings.controllers:
        return None
    controllers = tuple(dict.fromkeys(map(_controller, settings.controllers)))
    name = settings.name or own_name
    if not is_host_name(name):
        raise BadSettings(f"announce.name: {name!r} is not a host name")
    for key, value in settings.labels.items():
        if not is_label(key, value):
            raise BadSettings(f"announce.labels.{key}: {key}={value} is not a label")
    return Announcement(
        controllers=controllers,
        name=name,
        address=_address(settings, name, listen, controllers),
        labels=tuple(sorted(settings.labels.items())),
    )


def _controller(text: str) -> str:
    """As gRPC wants it."""
    if is_ipv6(text):
        return f"[{text}]:{CONTROLLER_PORT}"
    whole = text.startswith("unix:") or re.search(r":[0-9]+$", text, re.ASCII)
    address = text if whole else f"{text}:{CONTROLLER_PORT}"
    if not _is_address(address):
        raise BadSettings(f"announce.controllers: {text!r}: wanted HOST, HOST:PORT or unix:/path")
    return address


def _address(
    settings: AnnounceSettings, name: str, listen: Sequence[str], controllers: Sequence[str]
) -> str:
    """Where controllers are to ask us."""
    if settings.address is not None:
        if not _is_address(settings.address):
            raise BadSettings(
                f"announce.address: {settings.address!r}: wanted HOST:PORT or unix:/path"
            )
        return settings.address
    beyond = [at for at in listen if not is_local(at)]
    if beyond:
        port = beyond[0].rpartition(":")[2]
        return f"{name}:{port}" if is_nowhere(beyond[0]) else beyond[0]
    if all(map(is_local, controllers)):
        return listen[0]
    raise BadSettings(
        f"announce.address: this agent listens at {', '.join(listen)}, where no controller"
        " elsewhere reaches it: say where it is reached, or let it listen elsewhere"
    )


def _is_address(text: str) -> bool:
    if text.startswith("unix:"):
        return len(text) > len("unix:") and text.isprintable()
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return (
        is_host_name(bare)
        and (":" not in bare or host.startswith("["))
        and re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is not None
        and 1 <= int(port) <= 65535
    )
