import datetime as dt

import pytest
import trustme

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.certificates import (
    SERVER,
    Certificates,
    ChardevCertificates,
    Credentials,
    GuestTlsPorts,
    MigrationCertificates,
    MigrationWithTls,
    certificates_for,
    chardev_absent,
    chardev_certificates,
    client_absent,
    client_refused,
    credentials,
    guest_tls_ports,
    migration_certificates,
    migration_with_tls,
    not_trusted,
    other_name,
    server_absent,
    server_refused,
)
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.tenants import HostIdentity
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.sources import FileStat, SourceError, Unreadable, User, Want

QEMU = QemuUser(user=User(name="libvirt-qemu", uid=64055, gid=105), dynamic_ownership=True)
TLS = MigrationWithTls()
FOLDER = FileStat(kind="dir", size_bytes=0, mode=0o755, uid=0, gid=0, device=1, inode=2)
ALL = ("ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem")


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def conf(**settings: str) -> QemuConf:
    return QemuConf(value_by_key=settings)


def host(*names: str, **special: bool | SourceError) -> MigrationCertificates:
    mays: dict[tuple[str, Want, str], bool | SourceError] = {
        (f"/etc/pki/qemu/{name}", Want.READ, "libvirt-qemu"): True for name in names
    }
    for name, answer in special.items():
        file = name.replace("_", "-") + ".pem"
        mays[f"/etc/pki/qemu/{file}", Want.READ, "libvirt-qemu"] = answer
    return migration_certificates(FakeSource(mays=mays), conf(), QEMU)


def directory(source: FakeSource, settings: QemuConf) -> str:
    return certificates_for("migrate", SERVER, source, settings, QEMU).directory


def test_the_directory_is_the_one_that_libvirt_takes() -> None:
    own = FakeSource(stats={"/etc/pki/libvirt-migrate": FOLDER})
    set_to = conf(migrate_tls_x509_cert_dir='"/a"', default_tls_x509_cert_dir='"/b"')
    assert directory(own, set_to) == "/a"
    assert directory(own, conf(default_tls_x509_cert_dir='"/b"')) == "/etc/pki/libvirt-migrate"
    assert directory(FakeSource(), conf(default_tls_x509_cert_dir='"/b"')) == "/b"
    assert directory(FakeSource(), conf()) == "/etc/pki/qemu"


def test_a_destination_without_certificates_takes_nobody_with_tls() -> None:
    found = problems(server_absent(TLS, host()))
    assert [problem.subject for problem in found] == [
        "/etc/pki/qemu/ca-cert.pem",
        "/etc/pki/qemu/server-cert.pem",
        "/etc/pki/qemu/server-key.pem",
    ]


def test_a_key_that_qemu_may_not_read_is_as_good_as_none() -> None:
    (problem,) = problems(
        server_absent(TLS, host("ca-cert.pem", "server-cert.pem", server_key=False))
    )
    assert problem.found == "user libvirt-qemu may not read it"


def test_what_nobody_could_look_at_is_left_open() -> None:
    secret = host("ca-cert.pem", "server-cert.pem", server_key=Unreadable("no right"))
    assert unclear(server_absent(TLS, secret))


def test_a_destination_with_certificates_is_fine() -> None:
    assert not list(server_absent(TLS, host(*ALL)))


def test_a_source_needs_the_authoritys_certificate() -> None:
    (problem,) = [one for one in client_absent(TLS, host()) if isinstance(one, Problem)]
    assert problem.subject == "/etc/pki/qemu/ca-cert.pem"


def test_a_source_may_do_without_a_certificate_of_its_own() -> None:
    assert len(unclear(client_absent(TLS, host("ca-cert.pem")))) == 2


def test_a_source_with_certificates_is_fine() -> None:
    assert not list(client_absent(TLS, host(*ALL)))


def test_without_tls_nobody_asks_for_certificates() -> None:
    assert migration_with_tls(MigrationOptions()) is None
    assert migration_with_tls(MigrationOptions(tls=True)) == TLS


# ------------------------------------------------------------------------- what is in the files


NOW_S = 1_800_000_000.0
OURS, THEIRS = trustme.CA(), trustme.CA()
FILES = MigrationCertificates(
    certificates=Certificates(directory="/etc/pki/qemu", fault_by_name={})
)
SELF = HostIdentity(uuid="2", hostname="h2")


def pem(*names: str, by: trustme.CA = OURS, years: int = 50) -> str:
    ends = dt.datetime.fromtimestamp(NOW_S, dt.UTC) + dt.timedelta(365 * years)
    begins = ends - dt.timedelta(365 * 60)
    return (
        by.issue_cert(*names, not_before=begins, not_after=ends).cert_chain_pems[0].bytes().decode()
    )


def authority(ca: trustme.CA = OURS) -> str:
    return ca.cert_pem.bytes().decode()


def holding(
    server: str = "", client: str = "", ca: str | None = None, **settings: str
) -> Credentials:
    texts = {
        "/etc/pki/qemu/ca-cert.pem": authority() if ca is None else ca,
        "/etc/pki/qemu/server-cert.pem": server,
        "/etc/pki/qemu/client-cert.pem": client,
        "/proc/stat": f"cpu 1 2\nbtime {NOW_S - 100:.0f}\n",
        "/proc/uptime": "100.00 150.00\n",
    }
    source = FakeSource(texts={path: text for path, text in texts.items() if text})
    return credentials(source, TLS, FILES, conf(**settings))


def test_a_certificate_of_its_own_authority_that_is_valid_is_fine() -> None:
    host = holding(pem("h2"), pem("h2"))
    assert not list(server_refused(TLS, host))
    assert not list(client_refused(TLS, host))


def test_a_certificate_that_has_expired_is_refused_by_its_own_qemu() -> None:
    host = holding(pem("h2", years=-1), pem("h2"))
    (problem,) = problems(server_refused(TLS, host))
    assert problem.subject == "/etc/pki/qemu/server-cert.pem"
    assert problem.found.startswith("expired on 2026-")
    assert not list(client_refused(TLS, host))


def test_a_certificate_of_another_authority_than_the_one_beside_it_is_refused() -> None:
    host = holding(pem("h2"), pem("h2", by=THEIRS))
    (problem,) = problems(client_refused(TLS, host))
    assert problem.found == "not signed by the authority of ca-cert.pem"
    assert not list(server_refused(TLS, host))


def test_what_is_not_there_is_not_refused() -> None:
    nothing = holding(ca="")
    assert not list(server_refused(TLS, nothing))
    assert not list(other_name(TLS, nothing, MigrationOptions(), conf(), SELF))


def test_what_is_no_certificate_or_has_no_time_leaves_it_open() -> None:
    with pytest.raises(Unreadable, match="/etc/pki/qemu: no certificate that can be read"):
        holding("hello")
    texts: dict[str, str | SourceError] = {
        "/etc/pki/qemu/ca-cert.pem": authority(),
        "/proc/stat": "cpu",
    }
    with pytest.raises(Unreadable, match="do not tell the time"):
        credentials(FakeSource(texts=texts), TLS, FILES, conf())


@pytest.mark.parametrize(
    ("names", "migrateuri", "settings", "missing"),
    [
        (("h2",), "", {}, ""),
        (("h9",), "", {}, "h2"),
        (("h2",), "tcp://10.78.0.2:49999", {}, "10.78.0.2"),
        (("h2", "10.78.0.2"), "tcp://10.78.0.2", {}, ""),
        (("h2",), "", {"migration_host": '"wan.h2"'}, "wan.h2"),
        (("h2",), "tcp://h2", {"migration_host": '"wan.h2"'}, ""),
    ],
)
def test_the_certificate_has_to_name_the_host_that_the_source_connects_to(
    names: tuple[str, ...], migrateuri: str, settings: dict[str, str], missing: str
) -> None:
    options = MigrationOptions(migrateuri=migrateuri)
    found = problems(other_name(TLS, holding(pem(*names)), options, conf(**settings), SELF))
    assert [problem.wanted for problem in found] == ([missing] if missing else [])


def origin(ca: trustme.CA = OURS, client: str | None = None) -> GuestOrigin:
    shown = pem("h1") if client is None else client
    return GuestOrigin(host_name="h1", host_uuid="1", tls_authority=authority(ca), tls_client=shown)


def test_each_host_has_to_know_the_authority_of_the_other() -> None:
    host, foreign = holding(pem("h2")), pem("h1", by=THEIRS)
    assert not list(not_trusted(TLS, host, origin()))
    (problem,) = problems(not_trusted(TLS, host, origin(THEIRS)))
    assert problem.wanted == "signed by an authority that h1 knows"
    (problem,) = problems(not_trusted(TLS, host, origin(client=foreign)))
    assert problem.subject == "the certificate of h1"


def test_a_source_with_nothing_to_show_is_let_in_by_nobody_who_looks() -> None:
    (problem,) = problems(not_trusted(TLS, holding(pem("h2")), origin(client="")))
    assert problem.found == "no client-cert.pem there"
    settings = {"migrate_tls_x509_verify": "0"}
    assert not list(not_trusted(TLS, holding(pem("h2"), **settings), origin(client="")))
    untold = GuestOrigin(host_name="h1", host_uuid="1")
    assert not list(not_trusted(TLS, holding(pem("h2")), untold))


def test_a_destination_that_verifies_nobody_takes_any_certificate() -> None:
    foreign = origin(client=pem("h1", by=THEIRS))
    for settings in ({"migrate_tls_x509_verify": "0"}, {"default_tls_x509_verify": "0"}):
        assert not list(not_trusted(TLS, holding(pem("h2"), **settings), foreign))
    both = {"migrate_tls_x509_verify": "1", "default_tls_x509_verify": "0"}
    assert list(not_trusted(TLS, holding(pem("h2"), **both), foreign))


def tcp(tls: str = "", mode: str = "bind") -> GuestTlsPorts | None:
    return guest_tls_ports(
        read_domain(
            "<domain><name>g</name><devices><serial type='tcp'>"
            f"<source mode='{mode}' host='0.0.0.0' service='7777'{tls}/></serial></devices>"
            "</domain>"
        )
    )


def looked(guest: GuestTlsPorts, *names: str, **settings: str) -> ChardevCertificates:
    mays = {(f"/etc/pki/qemu/{name}", Want.READ, "libvirt-qemu"): True for name in names}
    return chardev_certificates(FakeSource(mays=mays), guest, conf(**settings), QEMU)


OPEN = GuestTlsPorts(wanted=frozenset(), open=frozenset({"server"}))


def test_a_serial_port_with_tls_by_its_host_needs_a_servers_certificates() -> None:
    told = problems(chardev_absent(OPEN, looked(OPEN, "ca-cert.pem", chardev_tls="1")))
    assert [problem.subject for problem in told] == [
        "/etc/pki/qemu/server-cert.pem",
        "/etc/pki/qemu/server-key.pem",
    ]


def test_a_client_needs_the_authority_alone() -> None:
    client = GuestTlsPorts(wanted=frozenset({"client"}), open=frozenset())
    (problem,) = problems(chardev_absent(client, looked(client)))
    assert problem.subject == "/etc/pki/qemu/ca-cert.pem"
    assert not list(chardev_absent(client, looked(client, "ca-cert.pem")))


def test_a_serial_port_without_tls_and_one_with_all_its_certificates_are_fine() -> None:
    assert not list(chardev_absent(OPEN, looked(OPEN)))
    assert not list(chardev_absent(OPEN, looked(OPEN, *SERVER, chardev_tls="1")))


@pytest.mark.parametrize(
    ("tls", "ports"),
    [
        ("", OPEN),
        (" tls='yes' tlsFromConfig='1'", OPEN),
        (" tls='yes'", GuestTlsPorts(wanted=frozenset({"server"}), open=frozenset())),
        (" tls='no'", None),
    ],
)
def test_whether_a_serial_port_has_tls_is_read(tls: str, ports: GuestTlsPorts | None) -> None:
    assert tcp(tls) == ports
