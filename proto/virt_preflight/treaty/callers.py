"""Who asks: the name that his certificate has, or where he asks from if he has none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Name

# What GnuTLS calls the parts of a name, and with it libvirt (`virt-pki-query-dn` of 9.0 and 11.3);
# others have their number.
PART_BY_OID = {
    "2.5.4.3": "CN",
    "2.5.4.4": "surName",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "EMAIL",
}
# The kernel's default for users that a namespace does not know (user_namespaces(7)).
NOBODY = 65534
# Callers come over few connections, and each call shows the whole certificate.
REMEMBERED = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever has come through the handshake, if there was one."""

    # Of the certificate; without one the address, without its port, which differs by connection,
    # and the user.
    name: str
    certified: bool = False
    # Without one: on this machine he may all that we may, so it need not be kept from him.
    trusted: bool = False
    # On this machine, its user: whose requests are counted together, from whatever address.
    user: int | None = None
    # The distinguished name as libvirt compares it: "C=GB,O=Example,CN=alice".
    dn: str = ""
    # "DNS:h1", "IP:10.0.0.1", "URI:spiffe://...", "EMAIL:alice@example.org".
    others: tuple[str, ...] = ()

    @property
    def counted(self) -> str:
        """Whose requests are counted together: a user has all of loopback's addresses."""
        return self.name if self.user is None else f"uid={self.user}"


def caller_of(peer: str, auth: Mapping[str, Iterable[bytes]], user: int | None) -> Caller:
    """As gRPC has it of a connection; the user whose it is, where the kernel says so."""
    for pem in auth.get("x509_pem_cert", ()):
        return certified(pem)
    if not peer.startswith("ip"):
        # Who may open our Unix socket its folder says.
        return Caller(name=peer, trusted=peer.startswith("unix:"))
    place = re.sub(r":[0-9]+$", "", peer)
    if user is None:
        return Caller(name=place)
    return Caller(name=f"{place} uid={user}", trusted=_is_one_of_us(user), user=user)


def _is_one_of_us(user: int) -> bool:
    """Root, and whom we run as. In a user namespace NOBODY is everybody who is not known there."""
    return user in (0, os.geteuid()) and user != NOBODY


@lru_cache(REMEMBERED)
def certified(pem: bytes) -> Caller:
    """Who has that certificate; that it is to be believed, the handshake has made sure."""
    from cryptography.x509 import load_pem_x509_certificate

    own = load_pem_x509_certificate(pem)
    dn, others = dn_of(own.subject), tuple(_others(own))
    return Caller(
        name=dn or next(iter(others), "a certificate without a name"),
        certified=True,
        dn=dn,
        others=others,
    )


def dn_of(name: Name) -> str:
    """In the order of the certificate and with GnuTLS's words, as `virt-pki-query-dn` prints it."""
    return ",".join(
        "+".join(_part(one.oid.dotted_string, one.value) for one in rdn) for rdn in name.rdns
    )


def _part(oid: str, value: str | bytes) -> str:
    name = PART_BY_OID.get(oid)
    if name is None or isinstance(value, bytes) or not value.isprintable():
        return f"{name or oid}=#{_der(value).hex()}"
    escaped = re.sub(r'([,+"\\<>;])', r"\\\1", value)
    escaped = re.sub(r"^([# ])", r"\\\1", escaped)
    ended = re.sub(r" $", r"\\ ", escaped)
    return f"{name}={ended}"


def _der(value: str | bytes) -> bytes:
    """As a UTF8String, which it most often is; what matters is that it is no text any more."""
    content = value if isinstance(value, bytes) else value.encode()
    length = len(content)
    if length < 0x80:
        return bytes((0x0C, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x0C, 0x80 | len(size))) + size + content


def _others(own: Certificate) -> Iterator[str]:
    from cryptography import x509

    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return
    for name in names:
        match name:
            case x509.DNSName():
                yield f"DNS:{name.value}"
            case x509.IPAddress():
                yield f"IP:{name.value}"
            case x509.UniformResourceIdentifier():
                yield f"URI:{name.value}"
            case x509.RFC822Name():
                yield f"EMAIL:{name.value}"
