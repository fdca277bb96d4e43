"""TCP: who can be reached from this host, and what is free to listen on."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from virt_preflight.agent.sources import Absent, Refused, Unreadable

REACH_WITHIN_S = 1.0


def connect(host: str, port: int) -> None:
    """Open and close a connection. A refusal and an unknown name are sure, silence is not."""
    try:
        socket.create_connection((host, port), timeout=REACH_WITHIN_S).close()
    except ConnectionRefusedError:
        raise Refused(f"{host} port {port}: connection refused") from None
    except socket.gaierror as error:
        raise Absent(f"{host}: {error.strerror}") from None
    except TimeoutError:
        raise Refused(f"{host} port {port}: no answer within {REACH_WITHIN_S:g} s") from None
    except OSError as error:
        raise Refused(f"{host} port {port}: {error.strerror or error}") from None


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
