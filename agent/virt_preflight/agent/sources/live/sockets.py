"""Names and TCP: who can be reached from this host, and what is free to listen on."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

import psutil

from virt_preflight.agent.sources import Absent, Refused, SourceError, Unreadable
from virt_preflight.agent.sources.live.rejections import Rejection, rejected_by

REACH_WITHIN_S = 1.0
RESOLVE_WITHIN_S = 2.0
# Of getaddrinfo(3): these are sure, others (EAI_AGAIN, EAI_SYSTEM) may pass.
NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)


def connect(host: str, port: int) -> None:
    """Open and close a connection. A refusal and an unknown name are sure, silence is not."""
    try:
        socket.create_connection((host, port), timeout=REACH_WITHIN_S).close()
    except ConnectionRefusedError:
        raise Refused(f"{host} port {port}: connection refused") from None
    except socket.gaierror as error:
        raise _unresolved(host, error) from None
    except TimeoutError:
        raise Refused(f"{host} port {port}: no answer within {REACH_WITHIN_S:g} s") from None
    except OSError as error:
        if error.errno == errno.EHOSTUNREACH:
            raise _without_a_way(host, port) from None
        raise Refused(f"{host} port {port}: {error.strerror or error}") from None


def _without_a_way(host: str, port: int) -> SourceError:
    """A firewall that rejects a port says the same as a router that knows no way."""
    match rejected_by(host, port):
        case Rejection.HOST:
            return Refused(f"{host} port {port}: connection refused by its firewall")
        case Rejection.FIREWALL:
            return Refused(f"{host} port {port}: a firewall on the way rejects it")
        case _:
            return Refused(f"{host} port {port}: {os.strerror(errno.EHOSTUNREACH)}")


def resolve(name: str) -> tuple[str, ...]:
    """All addresses of a name; a connection would try them in turn."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _unresolved(name, error) from None
    except UnicodeError:
        raise Absent(f"{name}: is no host name") from None
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
    if all(map(_is_own, addresses)):
        raise Refused(f"{name}: is this host itself here ({', '.join(addresses)})")
    return addresses


def _unresolved(name: str, error: socket.gaierror) -> SourceError:
    kind = Absent if error.errno in NO_SUCH_NAME else Unreadable
    return kind(f"{name}: {error.strerror}")


def _is_own(address: str) -> bool:
    """The kernel sends to an own address from that very address. Nothing is sent to find out."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as trying:
        try:
            trying.connect((address, 1))
        except OSError:
            return False
        return bool(trying.getsockname()[0] == address.partition("%")[0])


def could_listen(address: str, port: int) -> bool:
    """Whether the address is this host's own and nobody listens on that port of it.

    Read from the kernel's tables: to bind it, be it for a moment, could cost somebody the port.
    """
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        raise Unreadable(f"{address!r} is no address") from None
    # All of 127.0.0.0/8 is the host's own, though only 127.0.0.1 is named.
    if not (wanted.is_unspecified or wanted.is_loopback or wanted in _own_addresses()):
        return False
    for taken in psutil.net_connections(kind="tcp"):
        if taken.status != psutil.CONN_LISTEN or not taken.laddr or taken.laddr.port != port:
            continue
        held = ipaddress.ip_address(taken.laddr.ip.partition("%")[0])
        if held.is_unspecified or wanted.is_unspecified or held == wanted:
            return False
    return True


def _own_addresses() -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    own = set()
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                own.add(ipaddress.ip_address(address.address.partition("%")[0]))
    return own
