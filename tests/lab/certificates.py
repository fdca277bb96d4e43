"""Certificates as an operator would lay them out, good and bad, for QEMU and for libvirtd.

They are made afresh whenever the lab's code is loaded: keys are nobody's, and no file is kept.
"""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.lab.faults import RESTART_LIBVIRTD, Fault

QEMU = "/etc/pki/qemu"
YEAR = dt.timedelta(days=365)
Age = Literal["current", "expired", "future"]
AUTHORITIES = ("the lab's CA", "another CA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def lifetime(age: Age) -> tuple[dt.datetime, dt.datetime]:
    now = dt.datetime.now(dt.UTC)
    begins = {"current": now - YEAR, "expired": now - 2 * YEAR, "future": now + YEAR}[age]
    ends = {"current": now + YEAR, "expired": now - YEAR, "future": now + 2 * YEAR}[age]
    return begins, ends


@functools.cache
def signing_key(authority: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def authority_pem(authority: str, age: Age = "current") -> str:
    """A CA's own certificate; the same key whatever its age."""
    key = signing_key(authority)
    begins, ends = lifetime(age)
    built = (
        x509.CertificateBuilder()
        .subject_name(named(authority))
        .issuer_name(named(authority))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                key_cert_sign=True,
                crl_sign=True,
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


@functools.cache
def issued(names: tuple[str, ...], *, by: str = AUTHORITIES[0], age: Age = "current") -> Pair:
    """A certificate for these names and addresses, which serves both ends of a connection."""
    key = ec.generate_private_key(ec.SECP256R1())
    begins, ends = lifetime(age)
    known_as = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
        for name in names
    ]
    built = (
        x509.CertificateBuilder()
        .subject_name(named(names[0]))
        .issuer_name(named(by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(known_as), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(signing_key(by), SHA256())
    )
    return Pair(
        certificate=built.public_bytes(Encoding.PEM).decode(),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )


def laid_out(text_by_path: Mapping[str, str]) -> str:
    """Shell lines that write these files; keys are the owner's alone."""
    lines = []
    for path, text in text_by_path.items():
        mode = "600" if "key" in path else "644"
        lines += [
            f"mkdir -p {path.rpartition('/')[0]}",
            f"printf %s {shlex.quote(text)} >{path}; chmod {mode} {path}",
        ]
    return "\n".join(lines)


def of_qemu(
    host: str,
    *,
    authority: str = AUTHORITIES[0],
    authority_age: Age = "current",
    server: Pair | None = None,
    client: Pair | None = None,
    without: Sequence[str] = (),
) -> Fault:
    """What QEMU shows to others, and by whom it knows them."""
    server = server or issued((host,))
    client = client or issued((host,))
    files = {
        "ca-cert.pem": authority_pem(authority, authority_age),
        "server-cert.pem": server.certificate,
        "server-key.pem": server.key,
        "client-cert.pem": client.certificate,
        "client-key.pem": client.key,
    }
    return Fault(
        name=f"certificates of QEMU on {host}",
        do=laid_out({f"{QEMU}/{name}": files[name] for name in files if name not in without}),
        undo=f"rm -rf {QEMU}; rmdir /etc/pki",
    )


PKI = "/etc/pki"
CLIENTS = {
    "CA/cacert.pem": "ca",
    "libvirt/clientcert.pem": "certificate",
    "libvirt/private/clientkey.pem": "key",
}


def of_libvirt_client(
    host: str, *, authority: str = AUTHORITIES[0], pair: Pair | None = None, without: str = ""
) -> Fault:
    """What libvirt shows when it connects to another's libvirtd with TLS."""
    pair = pair or issued((host,))
    text = {"ca": authority_pem(authority), "certificate": pair.certificate, "key": pair.key}
    files = {f"{PKI}/{name}": text[what] for name, what in CLIENTS.items() if what != without}
    return Fault(
        name=f"certificates of libvirt on {host}, as client",
        do=laid_out(files),
        undo=f"rm -rf {PKI}/CA {PKI}/libvirt; rmdir {PKI}",
    )


def of_libvirtd(host: str, *, authority: str = AUTHORITIES[0], pair: Pair | None = None) -> Fault:
    """A libvirtd that listens with TLS as well."""
    pair = pair or issued((host,))
    conf = "/etc/libvirt/libvirtd.conf"
    files = {
        f"{PKI}/CA/cacert.pem": authority_pem(authority),
        f"{PKI}/libvirt/servercert.pem": pair.certificate,
        f"{PKI}/libvirt/private/serverkey.pem": pair.key,
    }
    return Fault(
        name=f"libvirtd of {host} listens with TLS",
        do=f"{laid_out(files)}\ncp {conf} {conf}.before\n"
        f"sed -i 's/^listen_tls.*/listen_tls = 1/' {conf}\n{RESTART_LIBVIRTD}",
        undo=f"rm -rf {PKI}/CA {PKI}/libvirt; rmdir {PKI}\n"
        f"[ -e {conf}.before ] && mv {conf}.before {conf}\n{RESTART_LIBVIRTD}",
    )
