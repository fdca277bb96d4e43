"""Who says that a port cannot be reached: the host itself, somebody on the way, or nobody.

connect(2) gives "No route to host" for all of it (icmp_err_convert in net/ipv4/icmp.c): for a host
that no router knows, and for one whose firewall rejects the port with "host prohibited", as
firewalld does with every port that is not opened. A datagram's error queue tells them apart.
"""

from __future__ import annotations

import select
import socket
import struct
from enum import Enum

WITHIN_S = 0.5
# linux/in.h, linux/in6.h and linux/errqueue.h; the socket module has no names for them.
IP_RECVERR, IPV6_RECVERR = 11, 25
ORIGIN_ICMP, ORIGIN_ICMP6 = 2, 3
EXTENDED_ERROR = struct.Struct("=IBBBBII")
# Codes of ICMP "unreachable": net, host and communication prohibited (RFC 1812), port.
PROHIBITED = frozenset((9, 10, 13))
PORT = 3
# Of ICMPv6: administratively prohibited, port, policy (RFC 4443).
PROHIBITED6 = frozenset((1, 5))
PORT6 = 4


class Rejection(Enum):
    """Whose no it is."""

    HOST = "the host's own"
    FIREWALL = "a firewall's on the way"
    NOBODY = "nobody said so"


def rejected_by(host: str, port: int) -> Rejection:
    """One datagram without content to that port, where nobody listens; waits half a second."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            if family == socket.AF_INET6:
                asking.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            else:
                asking.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            asking.connect(where)
            asking.send(b"")
            poll = select.poll()
            poll.register(asking, select.POLLERR)
            if not poll.poll(WITHIN_S * 1000):
                return Rejection.NOBODY
            _, told, _, _ = asking.recvmsg(1, 512, socket.MSG_ERRQUEUE)
            return _whose(told, str(where[0]))
    except OSError:
        return Rejection.NOBODY


def _whose(told: list[tuple[int, int, bytes]], host: str) -> Rejection:
    for level, kind, content in told:
        if (level, kind) not in (
            (socket.IPPROTO_IP, IP_RECVERR),
            (socket.IPPROTO_IPV6, IPV6_RECVERR),
        ):
            continue
        _, origin, _, code, _, _, _ = EXTENDED_ERROR.unpack_from(content)
        offender = content[EXTENDED_ERROR.size :]
        if origin == ORIGIN_ICMP and code in {*PROHIBITED, PORT}:
            said_by = socket.inet_ntop(socket.AF_INET, offender[4:8])
        elif origin == ORIGIN_ICMP6 and code in {*PROHIBITED6, PORT6}:
            said_by = socket.inet_ntop(socket.AF_INET6, offender[8:24])
        else:
            continue
        return Rejection.HOST if said_by == host.partition("%")[0] else Rejection.FIREWALL
    return Rejection.NOBODY
