from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.families.certificates import (
    SERVER,
    MigrationCertificates,
    MigrationWithTls,
    certificates_for,
    client_absent,
    migration_certificates,
    migration_with_tls,
    server_absent,
)
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.options import MigrationOptions
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
