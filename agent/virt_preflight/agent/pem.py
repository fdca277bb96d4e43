"""The one door for certificates: X.509 in PEM, held against a time, a name and an authority.

Only what GnuTLS would say for sure is said: what cannot be read or reckoned raises BadPem.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

Certificates = Sequence[x509.Certificate]

# Far more than any bundle of authorities has; each costs a fraction of a millisecond.
MAX_CERTIFICATES = 1000
# GnuTLS' own limit for a chain (DEFAULT_MAX_VERIFY_DEPTH, lib/gnutls_int.h).
MAX_DEPTH = 16


class BadPem(Exception):
    """The text cannot be used; what is wrong with it."""


def certificates(text: str) -> Certificates:
    """All certificates of a file, the host's own first. Raises BadPem when there is none."""
    if text.count("-----BEGIN ") > MAX_CERTIFICATES:
        raise BadPem(f"more than {MAX_CERTIFICATES} certificates")
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadPem(f"no certificate that can be read: {error}") from None


def out_of_date(chain: Certificates, now_s: float) -> str:
    """In what way one of them is not valid at that time; empty when all are."""
    for one in chain:
        begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
        if ends.timestamp() < now_s:
            return f"expired on {ends:%Y-%m-%d}"
        if begins.timestamp() > now_s:
            return f"not valid before {begins:%Y-%m-%d}"
    return ""


def vouched_for(chain: Certificates, authorities: Certificates) -> bool:
    """Whether an authority has signed the first of the chain, by way of the others if need be."""
    current = chain[0]
    for _ in range(MAX_DEPTH):
        if current in authorities or any(_issuers(current, authorities)):
            return True
        above = next(_issuers(current, chain[1:]), current)
        if above == current:
            return False
        current = above
    raise BadPem(f"a chain of more than {MAX_DEPTH} certificates")


def _issuers(one: x509.Certificate, among: Certificates) -> Iterator[x509.Certificate]:
    for issuer in among:
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        except UnsupportedAlgorithm as error:
            raise BadPem(f"a signature that cannot be reckoned: {error}") from None
        yield issuer


def names_host(one: x509.Certificate, host: str) -> bool:
    """Whether it is for that host name or address (gnutls_x509_crt_check_hostname2).

    An address that stands among the names is taken as well; the common name counts only where
    there is no other name.
    """
    try:
        told = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = told.get_values_for_type(x509.DNSName)
        addresses = told.get_values_for_type(x509.IPAddress)
    except x509.ExtensionNotFound:
        names, addresses = [], []
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadPem(f"names that cannot be read: {error}") from None
    try:
        if ip_address(host) in addresses:
            return True
    except ValueError:
        pass  # a name
    if not names and not addresses:
        common = one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(common[-1].value)] if common else []
    return any(_is_named(host.lower(), name.lower()) for name in names)


def _is_named(host: str, name: str) -> bool:
    """`*` stands for the whole first label, and only where two more follow."""
    if name.startswith("*.") and name.count(".") > 1:
        return host.partition(".")[2] == name[2:]
    return host == name
