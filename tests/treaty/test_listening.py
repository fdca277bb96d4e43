from pathlib import Path

import pytest
import trustme

from tests.treaty.pki import issue
from virt_preflight.treaty import tls
from virt_preflight.treaty.certificates import BadCertificateError
from virt_preflight.treaty.listening import CannotListenError, Listening, listening
from virt_preflight.treaty.tls import Tls

BEYOND = ["0.0.0.0:50551", "[::]:50551", "h1:50551", "10.0.0.1:50551"]


@pytest.fixture(autouse=True)
def _no_certificates_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "SERVER_CERT", "/nowhere/servercert.pem")
    monkeypatch.setattr(tls, "CA", "/nowhere/cacert.pem")


@pytest.fixture(name="ours")
def _ours(tmp_path: Path) -> Tls:
    files = issue(tmp_path, trustme.CA(), "h1")
    return Tls(ca=str(files.ca), cert=str(files.cert), key=str(files.key))


@pytest.mark.parametrize("address", BEYOND)
def test_beyond_loopback_it_is_tls_or_nothing(address: str) -> None:
    with pytest.raises(CannotListenError) as caught:
        listening([address], Tls(), insecure=False)
    assert str(caught.value) == (
        f"{address} is not loopback, and there is no /nowhere/cacert.pem: make certificates "
        "(deploy/tls), name them in [tls], or say --insecure: "
        "then whoever reaches the port may ask"
    )


@pytest.mark.parametrize("address", BEYOND)
def test_unless_an_operator_says_insecure(address: str) -> None:
    assert listening([address], Tls(), insecure=True) == Listening(plain=(address,))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/a.sock"])
def test_what_is_local_stays_plain(address: str, ours: Tls) -> None:
    assert listening([address], ours, insecure=False) == Listening(plain=(address,))


def test_beyond_is_tls_and_local_is_plain(ours: Tls) -> None:
    how = listening(["127.0.0.1:1", "10.0.0.1:2", "unix:/x"], ours, insecure=False)
    assert (how.plain, how.secure) == (("127.0.0.1:1", "unix:/x"), ("10.0.0.1:2",))
    assert how.identity is not None


def test_loopback_is_tls_where_it_is_wanted(ours: Tls) -> None:
    wanted = Tls(ca=ours.ca, cert=ours.cert, key=ours.key, loopback=True)
    how = listening(["127.0.0.1:1", "unix:/x"], wanted, insecure=False)
    assert (how.plain, how.secure) == (("unix:/x",), ("127.0.0.1:1",))
    with pytest.raises(CannotListenError, match=r"\[tls\] wants TLS on loopback, and there is no"):
        listening(["127.0.0.1:1"], Tls(loopback=True), insecure=False)


def test_insecure_does_not_set_a_named_certificate_aside(ours: Tls) -> None:
    with pytest.raises(CannotListenError, match="exclude each other"):
        listening(["10.0.0.1:1"], ours, insecure=True)


def test_a_certificate_that_is_named_and_bad_is_told() -> None:
    with pytest.raises(BadCertificateError, match=r"^/nowhere/cacert.pem: no such file"):
        listening(["10.0.0.1:1"], Tls(cert="/nowhere/c.pem"), insecure=False)
