"""Who we are in a handshake, and whom we let in: mutual TLS between all parts.

Files that have changed are used from the next handshake on; calls under way go on as they are.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import grpc

from virt_preflight.treaty.addresses import is_loopback, is_socket
from virt_preflight.treaty.certificates import BadCertificateError, Files, Loaded, load
from virt_preflight.treaty.tls import CLIENT_CERT, ClientTls, client_files

# A fleet of ten thousand is not to read bad files as often.
AGAIN_AFTER_S = 1.0


class ServerIdentity:
    """The certificate that this side answers with."""

    def __init__(self, files: Files) -> None:
        """Raises BadCertificateError."""
        self._files = files
        self._state = files.state()
        self._loaded = load(files)

    @property
    def ends(self) -> datetime:
        """When the certificate in use has run out."""
        return self._loaded.ends

    def credentials(self) -> grpc.ServerCredentials:
        """For one `add_secure_port`: who has no certificate of our authority is not heard."""
        given = self._loaded

        def changed() -> grpc.ServerCertificateConfiguration | None:
            # Asked by gRPC at every handshake: None leaves all as it is.
            nonlocal given
            self._look()
            if self._loaded is given:
                return None
            given = self._loaded
            return _configuration(given)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(given),
            changed,  # type: ignore[arg-type]  # grpc's own words: None for no change
            require_client_authentication=True,
        )

    def _look(self) -> None:
        state = self._files.state()
        if state == self._state:
            return
        self._state = state
        try:
            self._loaded = load(self._files)
        except BadCertificateError as error:
            logging.warning("the certificate before is used on: %s", error)
        else:
            logging.info("%s: new certificate in use", self._files.cert)


class ClientIdentity:
    """The certificates that this side asks with."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._state: object = None
        self._loaded: Loaded | None = None
        self._credentials: grpc.ChannelCredentials | None = None
        self._why = ""
        self._tried_at = -math.inf

    def credentials(self) -> grpc.ChannelCredentials:
        """The same object until the files change. Raises BadCertificateError."""
        state = self._files.state()
        # Files of no use may become so by mere time, be it that their validity begins.
        waits = self._loaded is None and time.monotonic() > self._tried_at + AGAIN_AFTER_S
        if state != self._state or waits:
            self._state, self._tried_at = state, time.monotonic()
            self._take()
        if self._credentials is None or self._loaded is None:
            raise BadCertificateError(self._why)
        if datetime.now(UTC) > self._loaded.ends:
            raise BadCertificateError(
                f"{self._files.cert}: expired on {self._loaded.ends:%Y-%m-%d %H:%M} UTC"
            )
        return self._credentials

    def _take(self) -> None:
        try:
            found = load(self._files)
        except BadCertificateError as error:
            self._why = str(error)
            if self._loaded is not None:
                logging.warning("the certificate before is used on: %s", error)
            return
        self._loaded = found
        self._credentials = grpc.ssl_channel_credentials(found.ca, found.key, found.cert)


class Handshakes:
    """How the other side of an address is spoken to: by TLS where there are certificates."""

    def __init__(self, tls: ClientTls, environ: Mapping[str, str] = os.environ) -> None:
        files = client_files(tls, environ)
        self._identity = None if files is None else ClientIdentity(files)
        self._loopback = tls.loopback

    def credentials(self, address: str, *, insecure: bool) -> grpc.ChannelCredentials | None:
        """None: plain. Raises BadCertificateError where it should be TLS and cannot."""
        if insecure or is_socket(address) or (is_loopback(address) and not self._loopback):
            return None
        if self._identity is not None:
            return self._identity.credentials()
        if is_loopback(address):
            raise BadCertificateError(f"[tls] wants it on loopback, and there is no {CLIENT_CERT}")
        return None


def _configuration(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key, loaded.cert)], root_certificates=loaded.ca
    )
