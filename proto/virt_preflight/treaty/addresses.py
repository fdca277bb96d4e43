"""What of an address decides about TLS: who can reach it, and the name that a peer there has."""

import ipaddress
from functools import lru_cache


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


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
