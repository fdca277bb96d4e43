"""Metrics for Prometheus over HTTP: `GET /metrics`, and nothing else.

Nothing imports this module where no metrics are wanted.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from virt_preflight.treaty.certificates import BadCertificateError, Files, load
from virt_preflight.treaty.listening import CannotListenError, listening
from virt_preflight.treaty.tls import Tls, server_files

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


@contextmanager
def exposed(
    registry: CollectorRegistry, address: str, tls: Tls, *, insecure: bool
) -> Iterator[None]:
    """Answers there, in threads of its own, while the block lasts. Raises CannotExpose.

    By mutual TLS where the same address would be for gRPC; whoever has a certificate may read.
    """
    host, port = part(address)
    handshakes = how_exposed(address, tls, insecure=insecure)
    try:
        server = _Server(host, port, registry, handshakes)
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


def how_exposed(address: str, tls: Tls, *, insecure: bool) -> Handshakes | None:
    """By what handshakes, None for plainly. Raises CannotExpose."""
    part(address)
    try:
        how = listening((address,), tls, insecure=insecure)
        return Handshakes(server_files(tls)) if how.secure else None
    except (BadCertificateError, CannotListenError) as error:
        raise CannotExpose(f"metrics: {error}") from None


class Handshakes:
    """With the certificate that the files hold by then, or the last that was of use."""

    def __init__(self, files: Files) -> None:
        """Raises BadCertificateError."""
        self._files = files
        self._state = files.state()
        self._context = _context(files)

    def around(self, request: socket.socket) -> ssl.SSLSocket:
        """The connection, not yet shaken hands on."""
        if (state := self._files.state()) != self._state:
            self._state = state
            # gRPC's side logs why, when it looks.
            with suppress(BadCertificateError):
                self._context = _context(self._files)
        return self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)


def _context(files: Files) -> ssl.SSLContext:
    load(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.cert, files.key)
        context.load_verify_locations(files.ca)
    except (OSError, ssl.SSLError) as error:
        raise BadCertificateError(f"{files.cert}: {error}") from None
    return context


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

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, handshakes: Handshakes | None
    ) -> None:
        self._handshakes = handshakes
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

    def get_request(self) -> tuple[Any, Any]:
        """The handshake waits for the request's own thread: a silent caller holds up nobody."""
        request, address = super().get_request()
        request.settimeout(WITHIN_S)
        if self._handshakes is None:
            return request, address
        try:
            return self._handshakes.around(request), address
        except OSError:
            request.close()
            raise

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
