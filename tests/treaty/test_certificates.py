from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.treaty.pki import PAST, SOON, issue
from virt_preflight.treaty.certificates import BadCertificateError, Files, load


@pytest.fixture(name="ca", scope="module")
def _ca() -> trustme.CA:
    return trustme.CA()


def why(files: Files) -> str:
    with pytest.raises(BadCertificateError) as caught:
        load(files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_good_files_are_loaded_with_the_end_of_their_time(tmp_path: Path, ca: trustme.CA) -> None:
    loaded = load(issue(tmp_path, ca, "h1", not_after=SOON))
    assert abs(loaded.ends - SOON) < timedelta(seconds=2)


def test_a_missing_file_is_named(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    files.key.unlink()
    assert why(files) == f"{files.key}: no such file or directory"


def test_a_directory_is_no_file(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    files.key.unlink()
    files.key.mkdir()
    assert why(files) == f"{files.key}: is a directory"


def test_a_file_without_an_end_is_not_read_to_it(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    endless = Files(ca=Path("/dev/zero"), cert=files.cert, key=files.key)
    assert why(endless) == "/dev/zero: larger than 1 MiB"


def test_what_is_no_certificate_is_told_so(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    for path in (files.cert, files.ca):
        kept = path.read_bytes()
        path.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n")
        assert why(files) == f"{path}: holds no certificate in PEM form"
        path.write_bytes(kept)
    files.key.write_text("nonsense")
    assert why(files) == f"{files.key}: holds no private key in PEM form"


def test_an_encrypted_key_is_of_no_use(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = BestAvailableEncryption(b"secret")
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    assert why(files) == f"{files.key}: is encrypted, and nobody is there for a passphrase"


def test_an_expired_certificate_is_told_with_the_day(tmp_path: Path, ca: trustme.CA) -> None:
    ended = PAST + timedelta(days=1)
    files = issue(tmp_path, ca, "h1", not_before=PAST, not_after=ended)
    assert why(files) == f"{files.cert}: expired on {ended:%Y-%m-%d %H:%M} UTC"


def test_a_certificate_of_the_future_is_told_with_the_day(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1", not_before=SOON, not_after=SOON + timedelta(days=1))
    assert why(files) == f"{files.cert}: is not valid before {SOON:%Y-%m-%d %H:%M} UTC"


def test_an_authority_that_has_expired_is_told_too(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    with pytest.raises(BadCertificateError, match=r"cacert\.pem: expired on 3000"):
        load(files, now=datetime.now(UTC).replace(year=3500))


def test_a_key_of_another_certificate_is_told_with_both(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path / "a", ca, "h1")
    other = issue(tmp_path / "b", ca, "h1")
    mixed = Files(ca=files.ca, cert=files.cert, key=other.key)
    assert why(mixed) == f"{other.key}: is not the key of {files.cert}"


def test_a_certificate_of_another_authority_is_told(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    trustme.CA().cert_pem.write_to_path(files.ca)
    assert why(files) == f"{files.cert}: is not by the authority in {files.ca}"


def test_of_two_authorities_one_is_enough(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca, "h1")
    files.ca.write_bytes(trustme.CA().cert_pem.bytes() + ca.cert_pem.bytes())
    assert load(files).ca == files.ca.read_bytes()


def test_a_certificate_by_way_of_another_is_good(tmp_path: Path, ca: trustme.CA) -> None:
    files = issue(tmp_path, ca.create_child_ca(), "h1")
    ca.cert_pem.write_to_path(files.ca)
    assert load(files).ends > SOON


def test_a_key_that_is_made_readable_after_it_was_copied_is_looked_at_again(
    tmp_path: Path, ca: trustme.CA
) -> None:
    files = issue(tmp_path, ca, "h1")
    files.key.chmod(0o600)
    copied = files.state()
    assert files.state() == copied
    files.key.chmod(0o640)
    assert files.state() != copied
