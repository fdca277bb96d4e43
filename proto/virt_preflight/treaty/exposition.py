"""Metrics for Prometheus over HTTP: `GET /metrics`, and nothing else.

Nothing imports this module where no metrics are wanted.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

PATH = "/metrics"
# Prometheus asks one at a time; more than this are strangers, and each would hold a thread.
AT_ONCE = 8
# For the whole of a request, from its first byte until the answer was taken.
WITHIN_S = 10.0
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>[0-9]{1,5})"
)


class CannotExpose(Exception):
    """No metrics can be had at that address. Says which and why."""


def part(address: str) -> tuple[str, int]:
    """Host and port. Raises CannotExpose."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise CannotExpose(f"metrics at {address}: wanted HOST:PORT")
    return found["six"] or found["host"], int(found["port"])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def exposed(registry: CollectorRegistry, address: str, *, insecure: bool) -> Iterator[None]:
    """Answers there, in threads of its own, while the block lasts. Raises CannotExpose."""
    host, port = part(address)
    if not insecure and not is_loopback(host):
        raise CannotExpose(f"metrics at {address}: is not loopback, that needs --insecure")
    try:
        server = _Server(host, port, registry)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CannotExpose(f"metrics at {address}: {why}") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(WITHIN_S)


class _Handler(MetricsHandler):
    """Of prometheus_client, for one path, and without telling which Python this is."""

    server_version = "virt-preflight"
    sys_version = ""
    timeout = WITHIN_S

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        """The metrics, in the form that the asker prefers."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, f"only {PATH} is here")
            return
        super().do_GET()


class _Server(ThreadingHTTPServer):
    """A bounded number of threads, each for a bounded time."""

    daemon_threads = True
    # Who is still asking at the end is left to himself.
    block_on_close = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self._room = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(where[:2], _Handler.factory(registry))  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """Without asking a name server who we are, as http.server would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Where nobody more fits in, he is sent away at once."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Whoever sends a byte a second is cut off, too."""
        cut = threading.Timer(WITHIN_S, _cut, (request,))
        cut.daemon = True
        cut.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cut.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """That somebody hangs up, or is cut off, is not worth a traceback."""


def _cut(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
