"""Names and ports of this very machine: nothing leaves it."""

import socket
import struct

import pytest

from virt_preflight.agent.sources import Absent, Refused
from virt_preflight.agent.sources.live import rejections, sockets
from virt_preflight.agent.sources.live.rejections import Rejection


def test_a_name_that_is_only_this_host_itself_leads_nowhere() -> None:
    with pytest.raises(Refused, match=r"127\.0\.0\.1: is this host itself here \(127\.0\.0\.1\)"):
        sockets.resolve("127.0.0.1")


def test_the_address_of_another_host_is_its_own_name() -> None:
    assert sockets.resolve("192.0.2.7") == ("192.0.2.7",)


@pytest.mark.parametrize("name", ["a" * 300, "a..b", "x\0y"])
def test_what_is_no_host_name_is_absent(name: str) -> None:
    with pytest.raises(Absent):
        sockets.resolve(name)


def test_a_port_where_nobody_listens_is_refused_by_the_host_itself() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert rejections.rejected_by("127.0.0.1", port) is Rejection.HOST


def told(origin: int, code: int, offender: str) -> list[tuple[int, int, bytes]]:
    error = rejections.EXTENDED_ERROR.pack(113, origin, 3, code, 0, 0, 0)
    address = struct.pack("=HH", socket.AF_INET, 0) + socket.inet_aton(offender) + bytes(8)
    return [(socket.IPPROTO_IP, rejections.IP_RECVERR, error + address)]


@pytest.mark.parametrize(
    ("origin", "code", "offender", "whose"),
    [
        (rejections.ORIGIN_ICMP, 10, "10.0.0.2", Rejection.HOST),  # firewalld's reject
        (rejections.ORIGIN_ICMP, 13, "10.0.0.2", Rejection.HOST),
        (rejections.ORIGIN_ICMP, 13, "10.0.0.254", Rejection.FIREWALL),
        (rejections.ORIGIN_ICMP, 1, "10.0.0.254", Rejection.NOBODY),  # a router knows no such host
        (1, 0, "0.0.0.0", Rejection.NOBODY),  # our own kernel: nobody answers to the address
    ],
)
def test_who_says_no_is_told_apart(origin: int, code: int, offender: str, whose: Rejection) -> None:
    assert rejections._whose(told(origin, code, offender), "10.0.0.2") is whose
