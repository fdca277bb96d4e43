"""`[tls]`: which files a side's certificates are in, libvirt's own layout where none are named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from virt_preflight.treaty.certificates import Files

# Where libvirt has them (docs/kbase/tlscerts): of the machine, and of a user for himself.
CA = "/etc/pki/CA/cacert.pem"
SERVER_CERT = "/etc/pki/libvirt/servercert.pem"
SERVER_KEY = "/etc/pki/libvirt/private/serverkey.pem"
CLIENT_CERT = "/etc/pki/libvirt/clientcert.pem"
CLIENT_KEY = "/etc/pki/libvirt/private/clientkey.pem"
OF_USER = ".pki/libvirt"


class ClientTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[tls] of who asks; what is not named is looked for where libvirt has it."""

    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    # Use TLS with loopback addresses as well. Unix sockets never need it.
    loopback: bool = False


# Nothing named: libvirt's own places.
LIBVIRTS = ClientTls()


class Tls(ClientTls, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[tls] of who answers, and asks others too."""

    cert: str | None = None
    key: str | None = None

    def of_client(self) -> ClientTls:
        """What of it counts when this side asks others beyond loopback."""
        return ClientTls(ca=self.ca, client_cert=self.client_cert, client_key=self.client_key)


def server_files(tls: Tls) -> Files:
    """Of who answers."""
    return Files(
        ca=Path(tls.ca or CA), cert=Path(tls.cert or SERVER_CERT), key=Path(tls.key or SERVER_KEY)
    )


def client_files(tls: ClientTls, environ: Mapping[str, str]) -> Files | None:
    """Of who asks; None where none are named, and neither the user nor the machine has any."""
    named = tls.client_cert is not None or tls.client_key is not None
    files = Files(
        ca=Path(tls.ca or CA),
        cert=Path(tls.client_cert or CLIENT_CERT),
        key=Path(tls.client_key or CLIENT_KEY),
    )
    if named:
        return files
    if environ.get("HOME"):
        folder = Path(environ["HOME"]) / OF_USER
        own_ca = folder / "cacert.pem"
        of_user = Files(
            ca=Path(tls.ca) if tls.ca else own_ca if own_ca.exists() else Path(CA),
            cert=folder / "clientcert.pem",
            key=folder / "clientkey.pem",
        )
        if lacking(of_user) is None:
            return of_user
    return files if lacking(files) is None else None


def lacking(files: Files) -> Path | None:
    """What is not there of a certificate and its authority.

    The key is not looked for: it may be hidden, and that must be told, not passed over.
    """
    there = os.path.exists  # unlike Path.exists it never raises
    return next((path for path in (files.ca, files.cert) if not there(path)), None)
