"""What of an address decides about TLS: who can reach it, and the name that a peer there has."""

import ipaddress


def is_socket(address: str) -> bool:
    """Whether it is a Unix socket: who may open it, the file system says."""
    return address.startswith("unix:")


def is_loopback(address: str) -> bool:
    """Whether it is a port that only this machine reaches."""
    host = host_of(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local(address: str) -> bool:
    """Whether only this machine can reach it."""
    return is_socket(address) or is_loopback(address)


def host_of(address: str) -> str:
    """`HOST:PORT` without its port and brackets."""
    return address.rpartition(":")[0].strip("[]")
