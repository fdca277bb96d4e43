"""A port of loopback whose connections end at a Unix socket: they can be counted, and cut."""

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def relayed(path: str) -> Iterator["Relay"]:
    """The relay to a socket; it ends with the block."""
    relay = Relay(path)
    try:
        yield relay
    finally:
        relay.close()


class Relay:
    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        # Connections that were made through to the socket, ever.
        self.made = 0
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            other = socket.socket(socket.AF_UNIX)
            try:
                other.connect(self._path)
            except OSError:
                other.close()
                one.close()
                continue
            self.made += 1
            self._open.add(one)
            threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(other, one), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        # The other thread of the two sees the end, and closes its own.
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()

    def cut(self) -> None:
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # To shut it down wakes whoever accepts; to close it alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
