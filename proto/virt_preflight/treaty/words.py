"""How hosts and their labels are spelt, whoever writes them down."""

import ipaddress
import re

# As long as a domain name may be (RFC 1035, 2.3.4).
NAME_AT_MOST = 253

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?", re.ASCII)
# No `=` in it, which parts it from its value, and no comma, which parts labels.
_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*", re.ASCII)


def is_host_name(text: str) -> bool:
    """Whether a host may be called so: a name, or an address that stands for one."""
    return len(text) <= NAME_AT_MOST and (_HOST_NAME.fullmatch(text) is not None or is_ipv6(text))


def is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address without a zone, which means something on one host alone."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text


def is_label(key: str, value: str) -> bool:
    """Whether this can be said of a host."""
    return _LABEL_KEY.fullmatch(key) is not None and value.isprintable()
