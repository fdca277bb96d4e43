"""What this host says of itself, and to which controllers: [announce] of agent.toml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from virt_preflight.agent.settings import AnnounceSettings
from virt_preflight.treaty.addresses import WANTED, is_address, is_local, is_nowhere
from virt_preflight.treaty.tables import BadKeyError
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
    """What is to be said, None where nobody is to be told. Raises BadKeyError."""
    if not settings.controllers:
        return None
    controllers = tuple(dict.fromkeys(map(_controller, settings.controllers)))
    name = settings.name or own_name
    if not is_host_name(name):
        raise BadKeyError("announce.name", f"{name!r} is not a host name")
    for key, value in settings.labels.items():
        if not is_label(key, value):
            raise BadKeyError(f"announce.labels.{key}", f"{key}={value} is not a label")
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
    if not is_address(address):
        raise BadKeyError("announce.controllers", f"{text!r}: wanted HOST, HOST:PORT or unix:/path")
    return address


def _address(
    settings: AnnounceSettings, name: str, listen: Sequence[str], controllers: Sequence[str]
) -> str:
    """Where controllers are to ask us."""
    if settings.address is not None:
        if not is_address(settings.address):
            raise BadKeyError("announce.address", f"{settings.address!r}: {WANTED}")
        return settings.address
    beyond = [at for at in listen if not is_local(at)]
    if beyond:
        port = beyond[0].rpartition(":")[2]
        return f"{name}:{port}" if is_nowhere(beyond[0]) else beyond[0]
    if all(map(is_local, controllers)):
        return listen[0]
    raise BadKeyError(
        "announce.address",
        f"this agent listens at {', '.join(listen)}, where no controller"
        " elsewhere reaches it: say where it is reached, or let it listen elsewhere",
    )
