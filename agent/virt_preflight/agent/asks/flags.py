"""The options of `virsh migrate` as libvirt's migration flags and parameters, in one place."""

from __future__ import annotations

from enum import IntFlag

from virt_preflight.agent.options import MigrationOptions

# A name that is never given to any host (RFC 6761), and no port: libvirt chooses one.
NOWHERE = "tcp://dry-run.invalid"


class Migrate(IntFlag):
    """virDomainMigrateFlags (libvirt-domain.h): numbers that are for ever."""

    LIVE = 1 << 0
    PEER2PEER = 1 << 1
    TUNNELLED = 1 << 2
    PERSIST_DEST = 1 << 3
    NON_SHARED_DISK = 1 << 6
    NON_SHARED_INC = 1 << 7
    # Holds the guest's job until Confirm: never ours, so that the guest is touched by nobody.
    CHANGE_PROTECTION = 1 << 8
    UNSAFE = 1 << 9
    OFFLINE = 1 << 10
    COMPRESSED = 1 << 11
    AUTO_CONVERGE = 1 << 13
    POSTCOPY = 1 << 15
    TLS = 1 << 16
    PARALLEL = 1 << 17


def flags_of(options: MigrationOptions) -> Migrate:
    """What virsh would hand to libvirt for these options (cmdMigrate, tools/virsh-domain.c)."""
    flags = Migrate(0)
    for given, flag in (
        (options.live, Migrate.LIVE),
        (options.offline, Migrate.OFFLINE),
        (options.p2p, Migrate.PEER2PEER),
        (options.tunnelled, Migrate.TUNNELLED),
        (options.persistent, Migrate.PERSIST_DEST),
        (options.copy_storage_all, Migrate.NON_SHARED_DISK),
        (options.copy_storage_inc, Migrate.NON_SHARED_INC),
        (options.unsafe, Migrate.UNSAFE),
        (options.compressed, Migrate.COMPRESSED),
        (options.auto_converge, Migrate.AUTO_CONVERGE),
        (options.postcopy, Migrate.POSTCOPY),
        (options.tls, Migrate.TLS),
        (options.parallel, Migrate.PARALLEL),
    ):
        if given:
            flags |= flag
    return flags


def parameters_of(options: MigrationOptions) -> dict[str, str | int | list[str]]:
    """The same for the options that have a value: VIR_MIGRATE_PARAM_*, by libvirt's names."""
    given: dict[str, str | int | list[str]] = {}
    if options.dname:
        given["destination_name"] = options.dname
    if options.xml:
        given["destination_xml"] = options.xml.decode()
    if options.migrateuri:
        given["migrate_uri"] = options.migrateuri
    if options.migrate_disks:
        given["migrate_disks"] = list(options.migrate_disks)
    return given


def rehearsal_flags(options: MigrationOptions) -> Migrate:
    """For Begin, Prepare and Finish one by one: no job is taken on the guest.

    Never offline: libvirt then leaves Perform out, and the definition really lands there.
    """
    flags = flags_of(options) & ~Migrate.CHANGE_PROTECTION
    assert not flags & (Migrate.OFFLINE | Migrate.CHANGE_PROTECTION), "would not stay a rehearsal"
    return flags


def destination_flags(flags: Migrate) -> Migrate:
    """What of them libvirt hands on to the destination (virDomainMigrateVersion3Full)."""
    return flags & ~Migrate.AUTO_CONVERGE


def refused_in_perform(
    options: MigrationOptions, token: str
) -> tuple[Migrate, dict[str, str | int | list[str]]]:
    """Flags and parameters of a whole migration that is sure to end where Perform begins.

    Perform parses the definition for the destination before it touches the guest
    (qemuMigrationSrcRun), and the token is no XML. Without PERSIST_DEST it would not be looked at
    and the guest would really move, so both go together; and should a libvirt ever overlook
    them, the address that the source would connect to does not resolve (RFC 6761).
    """
    flags = flags_of(options) | Migrate.PERSIST_DEST
    parameters = parameters_of(options)
    parameters["persistent_xml"] = token
    if not options.tunnelled:  # the stream then goes by libvirtd, which takes no such address
        parameters.setdefault("migrate_uri", NOWHERE)
    assert not flags & Migrate.OFFLINE, "libvirt would leave Perform out"
    assert flags & Migrate.PERSIST_DEST, "libvirt would not read the token"
    assert token, "an empty one is none"
    assert "<" not in token, "what libvirt could parse does not stop it"
    return flags, parameters
