"""Certificates for QEMU's own TLS: where they are, may QEMU read them, would the other side."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.clock import now_s
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, Unknown, have, look, need
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.tenants import HostIdentity
from virt_preflight.agent.families.transport.ways import host_and_port
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.pem import BadPem, certificates, names_host, out_of_date, vouched_for
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Absent, Source, SourceError, Unreadable, Want

DEFAULT = "/etc/pki/qemu"
SERVER = ("ca-cert.pem", "server-cert.pem", "server-key.pem")
CLIENT = ("ca-cert.pem", "client-cert.pem", "client-key.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """The files of one directory, by what is wrong with each: "" nothing."""

    directory: str
    fault_by_name: Mapping[str, str | Unknown]

    def faults(self, names: tuple[str, ...]) -> Problems:
        """What is wrong with those of these files."""
        for name in names:
            path, fault = f"{self.directory}/{name}", self.fault_by_name[name]
            if isinstance(fault, Unknown):
                yield CouldNotTell(subject=path, why=fault.why)
            elif fault:
                yield Problem(
                    subject=path,
                    wanted="a file that QEMU may read",
                    found=fault,
                    commands=(f"ls -l {shlex.quote(path)}",),
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationWithTls:
    """The guest is moved with --tls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationCertificates:
    """Those for the migration stream, as server and as client."""

    certificates: Certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What those files say, in PEM; empty: not there."""

    directory: str
    authority: str
    server: str
    client: str
    # In what way a file is out of date, or of another authority than the one beside it, by name.
    fault_by_name: Mapping[str, str]
    # Whether this host lets nobody in whom its authority does not know.
    verifies_clients: bool


def certificates_for(
    purpose: str, names: tuple[str, ...], source: Source, conf: QemuConf, qemu: QemuUser
) -> Certificates:
    """Of `migrate`, `vnc`, `spice`: the setting, else its own directory, else the default one.

    virQEMUDriverConfigSetDefaults, qemu/qemu_conf.c.
    """
    directory = conf.string(f"{purpose}_tls_x509_cert_dir")
    if not directory:
        directory = f"/etc/pki/libvirt-{purpose}"
        try:
            source.stat(directory)
        except Absent:
            directory = conf.string("default_tls_x509_cert_dir") or DEFAULT
    return Certificates(
        directory=directory,
        fault_by_name={name: _fault(source, f"{directory}/{name}", qemu) for name in names},
    )


def _fault(source: Source, path: str, qemu: QemuUser) -> str | Unknown:
    try:
        readable = source.may(path, Want.READ, qemu.user)
    except Absent:
        return "not there"
    except SourceError as error:
        return Unknown(str(error))
    return "" if readable else f"user {qemu.user.name} may not read it"


@need
def migration_with_tls(options: MigrationOptions) -> MigrationWithTls | None:
    """None without: what a host has of certificates then does not matter."""
    return MigrationWithTls() if options.tls else None


@have(Pace.FIXED)
def migration_certificates(source: Source, conf: QemuConf, qemu: QemuUser) -> MigrationCertificates:
    """Both roles: a host is one's source and another's destination."""
    names = tuple(dict.fromkeys((*SERVER, *CLIENT)))
    return MigrationCertificates(
        certificates=certificates_for("migrate", names, source, conf, qemu)
    )


@look(Pace.MOVING)
def credentials(
    source: Source, _tls: MigrationWithTls, host: MigrationCertificates, conf: QemuConf
) -> Credentials:
    """Read anew each time: a certificate that was renewed a moment ago is the one that counts."""
    directory = host.certificates.directory
    names = ("ca-cert.pem", "server-cert.pem", "client-cert.pem")
    texts = {name: _text_or_none(source, f"{directory}/{name}") for name in names}
    authority = texts["ca-cert.pem"]
    verify_by_default = conf.flag("default_tls_x509_verify", default=True)
    try:
        now = now_s(source) if any(texts.values()) else 0.0
        faults = {name: _worth(text, authority, now) for name, text in texts.items() if text}
    except BadPem as error:
        raise Unreadable(f"{directory}: {error}") from None
    return Credentials(
        directory=directory,
        authority=authority,
        server=texts["server-cert.pem"],
        client=texts["client-cert.pem"],
        fault_by_name=faults,
        verifies_clients=conf.flag("migrate_tls_x509_verify", default=verify_by_default),
    )


def _text_or_none(source: Source, path: str) -> str:
    try:
        return source.text(path)
    except Absent:
        return ""


def _worth(text: str, authority: str, now: float) -> str:
    """As QEMU looks at its own when it starts (qcrypto_tls_creds_x509_sanity_check)."""
    chain = certificates(text)
    stale = out_of_date(chain, now)
    if stale or not authority or vouched_for(chain, certificates(authority)):
        return stale
    return "not signed by the authority of ca-cert.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTlsPorts:
    """Serial ports and the like that are TCP: those with TLS of their own, and those that would.

    Each by what it is: "server" or "client".
    """

    wanted: frozenset[str]
    open: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChardevCertificates:
    """Those that QEMU needs for them; None: none of them has TLS here."""

    certificates: Certificates | None
    names: tuple[str, ...] = ()


TCP_DEVICES = ("serial", "parallel", "console", "channel", "smartcard", "redirdev")


@need
def guest_tls_ports(domain: Domain) -> GuestTlsPorts | None:
    """`<source tls>`; where nothing is said, or it came from the source's qemu.conf, it is open."""
    wanted, left = set(), set()
    for name in TCP_DEVICES:
        for end in domain.root.findall(f"devices/{name}[@type='tcp']/source"):
            role = "server" if end.get("mode") == "bind" else "client"
            if end.get("tls") is None or end.get("tlsFromConfig") == "1":
                left.add(role)
            elif end.get("tls") == "yes":
                wanted.add(role)
    if not (wanted or left):
        return None
    return GuestTlsPorts(wanted=frozenset(wanted), open=frozenset(left))


@look(Pace.MOVING)
def chardev_certificates(
    source: Source, guest: GuestTlsPorts, conf: QemuConf, qemu: QemuUser
) -> ChardevCertificates:
    """chardev_tls decides where the guest leaves it open (qemuDomainPrepareChardevSourceOne)."""
    by_default = conf.flag("chardev_tls", default=False)
    roles = guest.wanted | (guest.open if by_default else frozenset())
    if not roles:
        return ChardevCertificates(certificates=None)
    # A client needs none of its own: who listens may ask for one, and QEMU shows what is there.
    names = SERVER if "server" in roles else ("ca-cert.pem",)
    return ChardevCertificates(
        certificates=certificates_for("chardev", names, source, conf, qemu), names=names
    )


@check(
    "certificates.chardev-absent",
    Severity.BLOCKER,
    title="no certificates for a serial port with TLS",
    remedy="Put certificate, key and CA there for QEMU to read, or set chardev_tls to 0.",
)
def chardev_absent(_guest: GuestTlsPorts, host: ChardevCertificates) -> Problems:
    """With chardev_tls in qemu.conf, or tls='yes', a serial port or channel by TCP has TLS.

    Error: "Unable to access credentials /etc/pki/libvirt-chardev/ca-cert.pem: No such file or
    directory" (QEMU).
    """
    if host.certificates is not None:
        yield from host.certificates.faults(host.names)


@check(
    "certificates.server-absent",
    Severity.BLOCKER,
    title="no certificates to be migrated to with TLS",
    remedy="Put the host's certificate, its key and the CA's certificate there, readable for QEMU.",
)
def server_absent(_tls: MigrationWithTls, host: MigrationCertificates) -> Problems:
    """With --tls the destination's QEMU shows a certificate, and checks that of the source.

    Error: "unable to execute QEMU command 'object-add': Unable to access credentials
    /etc/pki/qemu/ca-cert.pem: No such file or directory" (QEMU, crypto/tlscredsx509.c).
    """
    yield from host.certificates.faults(SERVER)


@check(
    "certificates.client-absent",
    Severity.BLOCKER,
    title="no certificates to migrate from with TLS",
    remedy="Put the host's certificate, its key and the CA's certificate there, readable for QEMU.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def client_absent(_tls: MigrationWithTls, host: MigrationCertificates) -> Problems:
    """With --tls the source's QEMU needs the CA's certificate, and mostly one of its own.

    It can do without its own only when the destination does not verify its clients
    (migrate_tls_x509_verify = 0), which the source cannot know.
    Error: "Unable to access credentials /etc/pki/qemu/ca-cert.pem: No such file or directory".
    """
    yield from host.certificates.faults(CLIENT[:1])
    for found in host.certificates.faults(CLIENT[1:]):
        if isinstance(found, Problem):
            why = f"{found.found}; refused unless the destination verifies nobody"
            yield CouldNotTell(subject=found.subject, why=why)
        else:
            yield found


@check(
    "certificates.server-refused",
    Severity.BLOCKER,
    title="QEMU refuses its own certificate",
    remedy="Renew the certificate, by the authority whose certificate lies beside it.",
)
def server_refused(_tls: MigrationWithTls, host: Credentials) -> Problems:
    """QEMU looks at its own certificate and at the authority's before it waits for a guest.

    Errors: "The server certificate /etc/pki/qemu/server-cert.pem has expired", "Our own
    certificate ... failed validation against /etc/pki/qemu/ca-cert.pem: The certificate hasn't
    got a known issuer" (qcrypto_tls_creds_x509_sanity_check, QEMU's crypto/tlscredsx509.c).
    """
    yield from _refused(host, "ca-cert.pem", "server-cert.pem")


@check(
    "certificates.client-refused",
    Severity.BLOCKER,
    title="QEMU refuses its own certificate",
    remedy="Renew the certificate, by the authority whose certificate lies beside it.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def client_refused(_tls: MigrationWithTls, host: Credentials) -> Problems:
    """The source's QEMU looks at its own when the destination is already prepared.

    Error: "The client certificate /etc/pki/qemu/client-cert.pem has expired", as on the
    destination.
    """
    yield from _refused(host, "ca-cert.pem", "client-cert.pem")


def _refused(host: Credentials, *names: str) -> Problems:
    for name in names:
        if fault := host.fault_by_name.get(name):
            path = f"{host.directory}/{name}"
            yield Problem(
                subject=path,
                wanted="a certificate that is valid now",
                found=fault,
                commands=(f"certtool --certificate-info --infile {shlex.quote(path)}",),
            )


@check(
    "certificates.other-name",
    Severity.BLOCKER,
    title="the certificate is another host's",
    remedy="Let the certificate name the host as the migration does, or give --migrateuri a name "
    "that is in it.",
    phase=Phase.PERFORM,
)
def other_name(
    _tls: MigrationWithTls,
    host: Credentials,
    options: MigrationOptions,
    conf: QemuConf,
    identity: HostIdentity,
) -> Problems:
    """The source's QEMU wants the host that it connects to, as the migration URI writes it.

    That is --migrateuri's host, else migration_host of qemu.conf, else the host's own name.
    Error: "Certificate does not match the hostname h2" (QEMU, crypto/tlssession.c), when the
    destination is already prepared.
    """
    if not host.server:
        return
    given = host_and_port(options.migrateuri.partition(":")[2])[0]
    name = given or conf.string("migration_host") or identity.hostname
    try:
        named = names_host(certificates(host.server)[0], name)
    except BadPem as error:
        yield CouldNotTell(subject=f"{host.directory}/server-cert.pem", why=str(error))
        return
    if not named:
        yield Problem(
            subject=f"{host.directory}/server-cert.pem", wanted=name, found="not among its names"
        )


@check(
    "certificates.not-trusted",
    Severity.BLOCKER,
    title="the hosts do not know each other's authority",
    remedy="Give both hosts certificates of one authority, or each other's authority as well.",
    phase=Phase.PERFORM,
)
def not_trusted(_tls: MigrationWithTls, host: Credentials, origin: GuestOrigin) -> Problems:
    """Each QEMU checks the other's certificate by the authorities that its own host knows.

    The destination checks the source's unless migrate_tls_x509_verify = 0 in its qemu.conf; one
    that has none to show is let go ("Cannot write to TLS channel: Input/output error").
    Error: "The certificate hasn't got a known issuer" (QEMU, crypto/tlssession.c) on the side that
    does not know it, when the destination is already prepared.
    """
    pairs = [("this host's certificate", host.server, origin.tls_authority, origin.host_name)]
    if host.verifies_clients:
        pairs.append(
            (f"the certificate of {origin.host_name}", origin.tls_client, host.authority, "here")
        )
    if host.verifies_clients and origin.tls_authority and not origin.tls_client:
        yield Problem(
            subject=f"the certificate of {origin.host_name}",
            wanted="one that is shown here: migrate_tls_x509_verify",
            found="no client-cert.pem there",
        )
    for whose, shown, authority, where in pairs:
        if not shown or not authority:
            continue  # what is not there is another check's to tell
        try:
            known = vouched_for(certificates(shown), certificates(authority))
        except BadPem as error:
            yield CouldNotTell(subject=whose, why=str(error))
            continue
        if not known:
            yield Problem(
                subject=whose,
                wanted=f"signed by an authority that is known {where}"
                if where == "here"
                else f"signed by an authority that {where} knows",
                found="of another authority",
            )
