from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NoReturn

import pytest
import trustme
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tests.treaty.pki import PAST, issue
from virt_preflight.treaty import exposition
from virt_preflight.treaty.certificates import Files
from virt_preflight.treaty.exposition import AT_ONCE, CannotExpose, exposed
from virt_preflight.treaty.tls import Tls

# None of these is there, whatever machine this is.
NONE = Tls(ca="/nowhere/ca", cert=None, key=None)


def free_address(host: str = "127.0.0.1") -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.bind((host, 0))
        port = tried.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answer_of(address: str, path: str = "/metrics") -> tuple[int, str, str]:
    """The status, the headers and the text."""
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, str(answer.headers), answer.read().decode()
    finally:
        connection.close()


def scrape(address: str) -> str:
    status, headers, text = answer_of(address)
    assert (status, "Content-Type: text/plain" in headers) == (200, True)
    return text


def expose(address: str, tls: Tls = NONE, *, insecure: bool = False) -> None:
    with exposed(CollectorRegistry(), address, tls, insecure=insecure):
        pass


@contextmanager
def counted() -> Iterator[str]:
    registry, address = CollectorRegistry(), free_address()
    Counter("tried", "Of this test.", registry=registry).inc(3)
    with exposed(registry, address, NONE, insecure=False):
        yield address


def test_prometheus_is_answered_while_the_block_lasts_and_not_after() -> None:
    with counted() as address:
        assert "tried_total 3.0" in scrape(address)
    with pytest.raises(ConnectionError):
        scrape(address)


def test_ipv6_has_a_loopback_too() -> None:
    address = free_address("::1")
    with exposed(CollectorRegistry(), address, NONE, insecure=False):
        scrape(address)


def test_there_is_one_path_and_nobody_is_told_what_we_run_on() -> None:
    with counted() as address:
        status, headers, _ = answer_of(address, "/")
    assert status == 404
    assert "Python" not in headers


def test_a_port_in_use_is_one_line() -> None:
    with counted() as address, pytest.raises(CannotExpose) as caught:
        expose(address)
    assert str(caught.value) == f"metrics at {address}: address already in use"


@pytest.mark.parametrize(
    "address",
    ["9551", "127.0.0.1", "127.0.0.1:0", "h:65536", "unix:/x", ":9551", "::1:9551", "a b:1", ""],
)
def test_what_is_no_address_is_told_so(address: str) -> None:
    with pytest.raises(CannotExpose, match=r"wanted HOST:PORT"):
        expose(address, insecure=True)


@pytest.mark.parametrize("address", ["0.0.0.0:9551", "[::]:9551", "192.0.2.1:9551", "h1:9551"])
def test_beyond_loopback_it_takes_certificates_or_so_many_words(address: str) -> None:
    with pytest.raises(CannotExpose, match=r"is not loopback, .* or say --insecure"):
        expose(address)


def test_a_name_that_does_not_resolve_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(CannotExpose, match=r"^metrics at nowhere:9551: name or service not known$"):
        expose("nowhere:9551", insecure=True)


class Held(Collector):
    """Holds whoever asks until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.asked.release()
        assert self.go.wait(30)
        yield GaugeMetricFamily("held", "Of this test.", value=1)


def test_strangers_are_sent_away_while_as_many_ask_as_may() -> None:
    registry, held, address = CollectorRegistry(auto_describe=False), Held(), free_address()
    registry._collector_to_names[held] = []
    with exposed(registry, address, NONE, insecure=False):
        threads = [threading.Thread(target=scrape, args=(address,)) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert held.asked.acquire(timeout=30)
        with pytest.raises((OSError, HTTPException)):
            scrape(address)
        held.go.set()
        for thread in threads:
            thread.join(30)
        assert "held 1.0" in scrape(address)


def test_whoever_sends_a_byte_now_and_then_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "WITHIN_S", 0.3)
    with counted() as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            ends = time.monotonic() + 30
            try:
                while time.monotonic() < ends:
                    slow.sendall(b"G")
                    time.sleep(0.05)
            except OSError:
                pass
            assert time.monotonic() < ends
        assert "tried_total 3.0" in scrape(address)


@pytest.mark.parametrize(
    "said", [b"", b"\xff\xfe\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"x" * 70000]
)
def test_garbage_does_no_harm(said: bytes) -> None:
    with counted() as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as stranger:
            try:
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                stranger.recv(4096)
            except OSError:
                pass
        assert "tried_total 3.0" in scrape(address)


def handshake(address: str, context: ssl.SSLContext) -> str:
    connection = HTTPSConnection(address, timeout=10, context=context)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def client_context(ca: trustme.CA, by: trustme.CA | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if by is not None:
        by.issue_cert(common_name="prometheus").configure_cert(context)
    return context


def tls_of(files: Files) -> Tls:
    return Tls(ca=str(files.ca), cert=str(files.cert), key=str(files.key), loopback=True)


def test_where_the_rest_is_by_tls_so_are_metrics_and_strangers_are_not_heard(
    tmp_path: Path,
) -> None:
    ca, other = trustme.CA(), trustme.CA()
    tls = tls_of(issue(tmp_path, ca, "127.0.0.1"))
    registry, address = CollectorRegistry(), free_address()
    Counter("tried", "Of this test.", registry=registry).inc(3)
    with exposed(registry, address, tls, insecure=False):
        assert "tried_total 3.0" in handshake(address, client_context(ca, ca))
        for stranger in (client_context(ca, None), client_context(ca, other)):
            with pytest.raises((OSError, HTTPException)):
                handshake(address, stranger)
        with pytest.raises((OSError, HTTPException)):
            scrape(address)
        # Another certificate, by another authority: from the next connection on.
        issue(tmp_path, other, "127.0.0.1")
        assert "tried_total 3.0" in handshake(address, client_context(other, other))
        # One that is of no use does not take the last one away.
        (tmp_path / "cert.pem").write_text("none")
        assert "tried_total 3.0" in handshake(address, client_context(other, other))


def test_a_caller_who_never_shakes_hands_holds_up_nobody(tmp_path: Path) -> None:
    ca = trustme.CA()
    tls, address = tls_of(issue(tmp_path, ca, "127.0.0.1")), free_address()
    host, _, port = address.rpartition(":")
    with (
        exposed(CollectorRegistry(), address, tls, insecure=False),
        socket.create_connection((host, int(port)), timeout=10),
    ):
        handshake(address, client_context(ca, ca))


def test_a_certificate_that_is_of_no_use_is_one_line(tmp_path: Path) -> None:
    files = issue(tmp_path, trustme.CA(), "127.0.0.1", not_after=PAST)
    with pytest.raises(CannotExpose, match=r"^metrics: .*cert.pem: expired on "):
        expose("127.0.0.1:9551", tls_of(files))
