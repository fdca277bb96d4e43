"""Where a server listens: beyond loopback by TLS, unless an operator says so."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from virt_preflight.treaty.addresses import is_local, is_loopback
from virt_preflight.treaty.identities import ServerIdentity
from virt_preflight.treaty.tls import Tls, lacking, server_files


class CannotListenError(Exception):
    """An address must not be listened at as things are. Says what to do, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """How each address is listened at."""

    plain: tuple[str, ...]
    secure: tuple[str, ...] = ()
    identity: ServerIdentity | None = None


def listening(addresses: Sequence[str], tls: Tls, *, insecure: bool) -> Listening:
    """How to listen there. Raises CannotListenError, BadCertificateError."""
    beyond = [at for at in addresses if not is_local(at)]
    loopback = [at for at in addresses if is_loopback(at)] if tls.loopback else []
    named = tls.cert is not None or tls.key is not None
    if beyond and insecure:
        if named:
            raise CannotListenError(
                "insecure and a certificate in [tls] exclude each other: take one of them away"
            )
        beyond = []
    secure = tuple(at for at in addresses if at in beyond or at in loopback)
    if not secure:
        return Listening(plain=tuple(addresses))
    files = server_files(tls)
    if not named and (absent := lacking(files)) is not None:
        raise CannotListenError(_without(absent, secure[0], beyond))
    plain = tuple(at for at in addresses if at not in secure)
    return Listening(plain=plain, secure=secure, identity=ServerIdentity(files))


def listen(server: grpc.aio.Server, how: Listening) -> None:
    """Let the server listen so. Raises CannotListenError."""
    for address in how.plain:
        _listen(server, address, None)
    for address in how.secure:
        assert how.identity is not None, "who listens by TLS is somebody"
        _listen(server, address, how.identity.credentials())


def _without(absent: Path, address: str, beyond: Sequence[str]) -> str:
    if not beyond:
        return f"{address}: [tls] wants TLS on loopback, and there is no {absent}"
    return (
        f"{address} is not loopback, and there is no {absent}: make certificates (deploy/tls), "
        "name them in [tls], or say --insecure: then whoever reaches the port may ask"
    )


def _listen(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None
) -> None:
    if address.startswith("unix:") and _answers(address.removeprefix("unix:")):
        # gRPC would take the socket away from whoever listens there.
        raise CannotListenError(f"cannot listen at {address}: somebody does already")
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise CannotListenError(f"cannot listen at {address}: {_why_not(address)}") from error


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as trying:
        try:
            trying.connect(path)
        except OSError:
            return False
    return True


def _why_not(address: str) -> str:
    """gRPC does not say; the kernel does when it is asked the same."""
    if address.startswith("unix:"):
        folder = Path(address.removeprefix("unix:")).parent
        return "no socket can be made there" if folder.is_dir() else f"no directory {folder}"
    host, _, port = address.rpartition(":")
    try:
        for family, kind, _, _, where in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind) as trying:
                trying.bind(where)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "the port is in use"
