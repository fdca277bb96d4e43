"""Certificates of one run: one for all simulated agents, and one for whoever asks them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import trustme

from tests.treaty.pki import issue
from virt_preflight.treaty.certificates import Files
from virt_preflight.treaty.tls import LIBVIRTS, ClientTls, Tls

DOMAIN = "bench.example"


class Safety(Enum):
    """How the two sides talk."""

    PLAIN = "without TLS"
    MUTUAL = "mutual TLS"


@contextmanager
def certificates(safety: Safety) -> Iterator[Path | None]:
    """The folder that they are in, None where none are needed."""
    if safety is Safety.PLAIN:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        issue(Path(folder) / "server", authority, f"*.{DOMAIN}")
        issue(Path(folder) / "client", authority, f"controller.{DOMAIN}")
        yield Path(folder)


def client_tls(folder: Path | None) -> ClientTls:
    """Of who asks."""
    if folder is None:
        return LIBVIRTS
    files = _files(folder / "client")
    return ClientTls(
        ca=str(files.ca), client_cert=str(files.cert), client_key=str(files.key), loopback=True
    )


def server_tls(folder: Path | None) -> Tls:
    """Of who answers."""
    if folder is None:
        return Tls()
    files = _files(folder / "server")
    return Tls(ca=str(files.ca), cert=str(files.cert), key=str(files.key), loopback=True)


def _files(folder: Path) -> Files:
    """As `issue` names them."""
    return Files(ca=folder / "cacert.pem", cert=folder / "cert.pem", key=folder / "key.pem")
