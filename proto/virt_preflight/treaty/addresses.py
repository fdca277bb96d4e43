"""Addresses: how they are written, and what of one decides about TLS: who can reach it."""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from virt_preflight.treaty.words import is_host_name

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
WANTED = "wanted HOST:PORT or unix:/path"


def is_address(text: str) -> bool:
    """Whether it is `HOST:PORT`, an IPv6 address in brackets, or `unix:PATH`."""
    if is_socket(text):
        return len(text) > len("unix:") and text.isprintable()
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    return (
        is_host_name(bare)
        and bracketed is (":" in bare)
        and re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is not None
        and 1 <= int(port) <= 65535
    )


def wrong_address(addresses: Iterable[str]) -> str | None:
    """The first that is none."""
    return next((at for at in addresses if not is_address(at)), None)


def is_socket(address: str) -> bool:
    """Whether it is a Unix socket: who may open it, the file system says."""
    return address.startswith("unix:")


# Each host of a fleet is asked at its address again and again.
@lru_cache(maxsize=65_536)
def is_loopback(address: str) -> bool:
    """Whether it is a port that only this machine reaches."""
    ip = _ip(host_of(address))
    return host_of(address).lower() == "localhost" if ip is None else ip.is_loopback


def is_nowhere(address: str) -> bool:
    """Whether it is one to listen at, all addresses of a machine, and none to reach anybody at."""
    ip = _ip(host_of(address))
    return ip is not None and ip.is_unspecified


def is_local(address: str) -> bool:
    """Whether only this machine can reach it."""
    return is_socket(address) or is_loopback(address)


def host_of(address: str) -> str:
    """`HOST:PORT` without its port and brackets."""
    return address.rpartition(":")[0].strip("[]")


def _ip(host: str) -> Ip | None:
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def unmapped(ip: Ip) -> Ip:
    """An IPv4 address, though it be written as ::ffff:127.0.0.1."""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
