from pathlib import Path

import msgspec
import pytest

from virt_preflight.treaty import tls
from virt_preflight.treaty.certificates import Files
from virt_preflight.treaty.tls import ClientTls, Tls, client_files, server_files


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CA", "SERVER_CERT", "SERVER_KEY", "CLIENT_CERT", "CLIENT_KEY"):
        monkeypatch.setattr(tls, name, str(tmp_path / "system" / name))
    (tmp_path / "system").mkdir()


def test_a_server_is_where_libvirt_has_it(tmp_path: Path) -> None:
    system = tmp_path / "system"
    assert server_files(Tls()) == Files(
        ca=system / "CA", cert=system / "SERVER_CERT", key=system / "SERVER_KEY"
    )


def test_what_is_named_goes_before(tmp_path: Path) -> None:
    assert server_files(Tls(cert="/c", key="/k")) == Files(
        ca=tmp_path / "system/CA", cert=Path("/c"), key=Path("/k")
    )
    assert client_files(ClientTls(ca="/a", client_cert="/c", client_key="/k"), {}) == Files(
        ca=Path("/a"), cert=Path("/c"), key=Path("/k")
    )


def test_without_any_there_are_none(tmp_path: Path) -> None:
    assert client_files(ClientTls(), {"HOME": str(tmp_path)}) is None


def test_a_users_own_go_before_the_machines(tmp_path: Path) -> None:
    for name in ("CA", "CLIENT_CERT"):
        (tmp_path / "system" / name).touch()
    found = client_files(ClientTls(), {"HOME": str(tmp_path)})
    assert found is not None
    assert found.cert == tmp_path / "system/CLIENT_CERT"
    own = tmp_path / ".pki/libvirt"
    own.mkdir(parents=True)
    for name in ("cacert.pem", "clientcert.pem"):
        (own / name).touch()
    assert client_files(ClientTls(), {"HOME": str(tmp_path)}) == Files(
        ca=own / "cacert.pem", cert=own / "clientcert.pem", key=own / "clientkey.pem"
    )


def test_a_key_that_is_not_there_is_not_passed_over(tmp_path: Path) -> None:
    """Else a command would ask without TLS because it may not read its key."""
    for name in ("CA", "CLIENT_CERT"):
        (tmp_path / "system" / name).touch()
    assert client_files(ClientTls(), {}) is not None


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="certificate"):
        msgspec.convert({"certificate": "x"}, Tls)
