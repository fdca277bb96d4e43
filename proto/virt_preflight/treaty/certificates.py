"""A certificate, its key and its CA in three files: read, and held against each other.

Only what is needed for a handshake is kept. What is wrong is told in one line, with the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# A bundle of a few hundred authorities has that; more is some other file.
FILE_AT_MOST = 1024 * 1024


class BadCertificateError(Exception):
    """A file cannot be used for TLS. Says which and why, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where a side's certificate is."""

    ca: Path
    cert: Path
    key: Path

    def state(self) -> tuple[tuple[int, ...] | None, ...]:
        """What differs as soon as one of the files has been replaced, written or given away."""
        return tuple(map(_state, (self.ca, self.cert, self.key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the files hold."""

    ca: bytes
    cert: bytes
    key: bytes
    # When the certificate's validity is over.
    ends: datetime


def load(files: Files, now: datetime | None = None) -> Loaded:
    """All three, if they are of use now. Raises BadCertificateError."""
    now = now or datetime.now(UTC)
    ca, cert, key = map(_read, (files.ca, files.cert, files.key))
    authorities = _certificates(files.ca, ca)
    chain = _certificates(files.cert, cert)
    own = chain[0]
    for authority in authorities:
        # Of several any may have ended: they are there for the time in which one follows another.
        if _untimely(authority, now) is None:
            break
    else:
        raise BadCertificateError(f"{files.ca}: {_untimely(authorities[0], now)}")
    if (why := _untimely(own, now)) is not None:
        raise BadCertificateError(f"{files.cert}: {why}")
    _refuse_foreign_key(files, own, key)
    if not any(_issued(own, by) for by in (*authorities, *chain[1:])):
        raise BadCertificateError(f"{files.cert}: is not by the authority in {files.ca}")
    return Loaded(ca=ca, cert=cert, key=key, ends=own.not_valid_after_utc)


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The last three: a key that was copied is made readable for us next.
    written = found.st_mtime_ns, found.st_size, found.st_ino
    return *written, found.st_mode, found.st_uid, found.st_gid


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_AT_MOST + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise BadCertificateError(f"{path}: {why}") from None
    if len(content) > FILE_AT_MOST:
        raise BadCertificateError(f"{path}: larger than {FILE_AT_MOST >> 20} MiB")
    return content


def _certificates(path: Path, content: bytes) -> Sequence[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(content)
    except ValueError:
        raise BadCertificateError(f"{path}: holds no certificate in PEM form") from None


def _refuse_foreign_key(files: Files, own: Certificate, content: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise BadCertificateError(
            f"{files.key}: is encrypted, and nobody is there for a passphrase"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadCertificateError(f"{files.key}: holds no private key in PEM form") from None
    of_key, of_cert = (
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for public in (key.public_key(), own.public_key())
    )
    if of_key != of_cert:
        raise BadCertificateError(f"{files.key}: is not the key of {files.cert}")


def _issued(own: Certificate, by: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        own.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _untimely(one: Certificate, now: datetime) -> str | None:
    if now < one.not_valid_before_utc:
        return f"is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if now > one.not_valid_after_utc:
        return f"expired on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return None
