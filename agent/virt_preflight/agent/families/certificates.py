"""Certificates for QEMU's own TLS: where libvirt looks for them, and whether QEMU may read them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Pace, Unknown, have, need
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Absent, Source, SourceError, Want

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
