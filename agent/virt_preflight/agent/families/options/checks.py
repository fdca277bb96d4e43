"""Options that contradict each other, the guest or the host."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.families.options.guest import (
    DestinationXml,
    Essentials,
    GuestCopies,
    GuestEssentials,
    GuestHardLimit,
    ListedDisks,
    PostcopyOfFiles,
    PostcopyWanted,
    TunnelledCopy,
)
from virt_preflight.agent.families.options.host import HostHooks, HostPostcopy, MemoryFolder
from virt_preflight.agent.families.options.rewritten import SentXml, another_cpu, difference
from virt_preflight.agent.families.state.guest import GuestCondition
from virt_preflight.agent.families.versions import HostVersions, written
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity, Side

# A versioned machine type; what has no version is another name for one, which QEMU resolves.
VERSIONED_MACHINE = re.compile(r"-(?:rhel)?\d+\.\d+(?:\.\d+)?$")
# What was read and tried of each: the releases in between may do as either.
LENIENT_LIBVIRT, STRICT_LIBVIRT = 9_000_999, 11_003_000


# ------------------------------------------------------- options that contradict each other


@check(
    "options.offline-not-persistent",
    Severity.BLOCKER,
    title="--offline without --persistent",
    remedy="Add --persistent: the definition is all that moves.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def offline_not_persistent(options: MigrationOptions) -> Problems:
    """Without it nothing would be left of the guest on the destination.

    Error: "offline migration must be specified with the persistent flag set"
    (qemuMigrationSrcBeginPhase, qemu/qemu_migration.c).
    """
    if options.offline and not options.persistent:
        yield Problem(subject="--offline", wanted="--persistent", found="not given")


@check(
    "options.offline-with-storage",
    Severity.BLOCKER,
    title="--offline copies no disks",
    remedy="Copy the disks by other means.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def offline_with_storage(options: MigrationOptions) -> Problems:
    """Disks are copied by the running QEMU, and there is none.

    Error: "offline migration cannot handle non-shared storage" (qemuMigrationSrcBeginPhase).
    """
    if options.offline and options.copies_storage:
        yield Problem(subject="--offline", wanted="no --copy-storage-...", found="it is given")


@check(
    "options.offline-tunnelled",
    Severity.BLOCKER,
    title="--offline with --tunnelled",
    remedy="Leave --tunnelled out.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def offline_tunnelled(options: MigrationOptions) -> Problems:
    """There is no stream to send through a tunnel.

    Error: "tunnelled offline migration does not make sense" (qemuMigrationSrcBeginPhase).
    """
    if options.offline and options.tunnelled:
        yield Problem(subject="--offline", wanted="no --tunnelled", found="it is given")


@check(
    "options.postcopy-not-live",
    Severity.BLOCKER,
    title="--postcopy of a guest that does not go on running",
    remedy="Add --live.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def postcopy_not_live(
    _wanted: PostcopyWanted, options: MigrationOptions, condition: GuestCondition
) -> Problems:
    """Post-copy is for guests that go on running: with --live, and not paused.

    Error: "post-copy migration is not supported with non-live or paused migration"
    (qemuMigrationSrcBeginPhase).
    """
    if not options.live:
        yield Problem(subject="--postcopy", wanted="--live", found="not given")
    if condition.state is None:
        yield CouldNotTell(subject="--postcopy", why="libvirt does not say whether it is paused")
    elif condition.state == "paused":
        yield Problem(
            subject="--postcopy",
            wanted="a guest that runs",
            found="paused",
            remedy="Resume the guest first, or leave --postcopy out.",
            commands=(f"virsh resume {shlex.quote(condition.name)}",),
        )


@check(
    "options.postcopy-tunnelled",
    Severity.BLOCKER,
    title="--postcopy with --tunnelled",
    remedy="Leave one of them out; --tls encrypts a post-copy migration.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def postcopy_tunnelled(options: MigrationOptions) -> Problems:
    """A tunnel goes one way, and the destination asks for its pages.

    Error: "post-copy is not supported with tunnelled migration" (qemuMigrationSrcBeginPhase).
    """
    if options.postcopy and options.tunnelled:
        yield Problem(subject="--postcopy", wanted="no --tunnelled", found="it is given")


@check(
    "options.tunnelled-not-p2p",
    Severity.BLOCKER,
    title="--tunnelled without --p2p",
    remedy="Add --p2p.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def tunnelled_not_p2p(options: MigrationOptions) -> Problems:
    """The tunnel is the source libvirtd's own connection to the destination's.

    Error: "cannot perform tunnelled migration without using peer2peer flag"
    (virDomainMigrate3, libvirt-domain.c).
    """
    if options.tunnelled and not options.p2p:
        yield Problem(subject="--tunnelled", wanted="--p2p", found="not given")


@check(
    "options.tunnelled-parallel",
    Severity.BLOCKER,
    title="--tunnelled with --parallel",
    remedy="Leave one of them out.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def tunnelled_parallel(options: MigrationOptions) -> Problems:
    """There is one tunnel only.

    Error: "Flags 'VIR_MIGRATE_TUNNELLED' and 'VIR_MIGRATE_PARALLEL' are mutually exclusive"
    (virDomainMigrateToURI3, libvirt-domain.c).
    """
    if options.tunnelled and options.parallel:
        yield Problem(subject="--tunnelled", wanted="no --parallel", found="it is given")


@check(
    "options.tunnelled-with-uri",
    Severity.BLOCKER,
    title="--tunnelled with --migrateuri",
    remedy="Leave --migrateuri out.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def tunnelled_with_uri(options: MigrationOptions) -> Problems:
    """A tunnelled stream goes where the libvirtd's connection goes.

    Error: "migration URI is not supported by tunnelled migration"
    (qemuMigrationSrcPerformPeer2Peer, qemu/qemu_migration.c).
    """
    if options.tunnelled and options.migrateuri:
        yield Problem(subject="--tunnelled", wanted="no --migrateuri", found=options.migrateuri)


@check(
    "options.tunnelled-with-storage",
    Severity.BLOCKER,
    title="--tunnelled copies no disks",
    remedy="Leave --tunnelled out; --tls encrypts the copy, too.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def tunnelled_with_storage(wanted: TunnelledCopy, versions: HostVersions) -> Problems:
    """Disks are copied over NBD, which does not go through the tunnel.

    Error: "migration of non-shared storage is not supported with tunnelled migration and this
    QEMU" (qemuMigrationSrcBeginPhase); libvirt 9.0 goes on and fails when it copies the first
    disk: "argument key 'host' must not have null value".
    """
    if wanted.disks or versions.libvirt >= STRICT_LIBVIRT:
        yield Problem(subject="--tunnelled", wanted="no --copy-storage-...", found="it is given")
    elif versions.libvirt > LENIENT_LIBVIRT:
        yield CouldNotTell(
            subject="--tunnelled", why="with no disk to copy, not every libvirt refuses it"
        )


@check(
    "options.two-copies",
    Severity.BLOCKER,
    title="--copy-storage-all with --copy-storage-inc",
    remedy="Leave one of them out.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def two_copies(options: MigrationOptions) -> Problems:
    """Either whole chains are copied or their topmost images.

    Error: "Flags 'VIR_MIGRATE_NON_SHARED_DISK' and 'VIR_MIGRATE_NON_SHARED_INC' are mutually
    exclusive" (libvirt-domain.c).
    """
    if options.copy_storage_all and options.copy_storage_inc:
        yield Problem(subject="--copy-storage-all", wanted="no --copy-storage-inc", found="both")


@check(
    "options.direct",
    Severity.BLOCKER,
    title="--direct is not for QEMU",
    remedy="Use --p2p, or neither of them.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def direct(options: MigrationOptions) -> Problems:
    """Only drivers whose hypervisor migrates by itself know it; with --p2p it means nothing.

    Error: "direct migration is not supported by the source host" (libvirt-domain.c).
    """
    if options.direct and not options.p2p:
        yield Problem(subject="--direct", wanted="--p2p or a managed migration", found="--direct")


@check(
    "options.disks-not-copied",
    Severity.BLOCKER,
    title="--migrate-disks without --copy-storage",
    remedy="Add --copy-storage-all or --copy-storage-inc, or leave --migrate-disks out.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def disks_not_copied(_listed: ListedDisks, versions: HostVersions) -> Problems:
    """The list says which disks are copied when disks are copied.

    Error since some libvirt after 9.0: "use of 'VIR_MIGRATE_PARAM_MIGRATE_DISKS' requires use of
    'VIR_MIGRATE_NON_SHARED_DISK' or 'VIR_MIGRATE_NON_SHARED_INC' flag"
    (qemuMigrationSrcBeginPhase). Earlier ones pay no attention to the list.
    """
    if versions.libvirt >= STRICT_LIBVIRT:
        yield Problem(subject="--migrate-disks", wanted="--copy-storage-...", found="not given")
    elif versions.libvirt > LENIENT_LIBVIRT:
        yield CouldNotTell(subject="--migrate-disks", why="not every libvirt refuses it alone")


@check(
    "options.no-such-disk",
    Severity.BLOCKER,
    title="--migrate-disks names no disk",
    remedy="Name the targets of the guest's disks.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def no_such_disk(options: MigrationOptions, copies: GuestCopies) -> Problems:
    """Disks are named by their target, as vda.

    Error: "disk target vdz not found" (qemuMigrationSrcBeginPhase).
    """
    if options.copies_storage:
        for name in options.migrate_disks:
            if name not in copies.targets:
                yield Problem(
                    subject=f"disk {name}",
                    wanted="one of the guest's disks",
                    found=", ".join(sorted(copies.targets)) or "the guest has none",
                )


# ------------------------------------------------------------------------------ addresses


@check(
    "options.bad-migrateuri",
    Severity.BLOCKER,
    title="--migrateuri is no address for a migration",
    remedy="Write it as tcp://HOST or tcp://HOST:PORT.",
    side=Side.SOURCE,
    phase=Phase.PREPARE,
)
def bad_migrateuri(options: MigrationOptions) -> Problems:
    """The address that the source's QEMU sends the guest's memory to.

    Error: "missing scheme in migration URI: h2", "unsupported scheme h2 in migration URI h2:49152",
    "missing host in migration URI: tcp:///" (qemuMigrationDstPrepareDirect).
    """
    uri = options.migrateuri
    if not uri:
        return
    match = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*):", uri)
    if match is None:
        yield Problem(subject="--migrateuri", wanted="tcp://HOST", found=f"{uri}, no scheme")
    elif match[1] not in ("tcp", "rdma", "unix"):
        yield Problem(subject="--migrateuri", wanted="tcp, rdma or unix", found=match[1])
    elif match[1] != "unix" and not uri[match.end() :].lstrip("/").split("/")[0].split(":")[0]:
        # What starts with a bracket is an IPv6 address, and its first part is not empty.
        yield Problem(subject="--migrateuri", wanted="a host", found=f"{uri}, no host")


@check(
    "options.rdma-without-limit",
    Severity.BLOCKER,
    title="RDMA needs a hard limit of memory",
    remedy="Set <memtune><hard_limit> for the guest.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def rdma_without_limit(options: MigrationOptions, limit: GuestHardLimit) -> Problems:
    """RDMA locks the guest's memory, and libvirt wants to know how much at most.

    Error: "cannot start RDMA migration with no memory hard limit set"
    (qemuMigrationDstPrepareActive).
    """
    if options.migrateuri.startswith("rdma:") and not limit.present:
        yield Problem(subject="--migrateuri", wanted="<hard_limit>", found="none")


@check(
    "options.same-host",
    Severity.BLOCKER,
    title="the destination is this very host",
    remedy="Name the destination as the source can reach it.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def same_host(options: MigrationOptions) -> Problems:
    """With --p2p the source's libvirtd connects to that URI itself, where localhost is itself.

    Error: "Attempt to migrate guest to the same host" (virDomainMigrateCheckNotLocal,
    libvirt-domain.c).
    """
    if not (options.p2p and options.desturi):
        return
    try:
        parts = urlsplit(options.desturi)
        server = parts.hostname or ""
    except ValueError:
        # virURIParse would refuse it, too, or would not: another check's matter.
        return
    to_socket = "unix" in parts.scheme.partition("+")[2] and "socket=" in parts.query
    if server.startswith("localhost") or (not server and not to_socket):
        yield Problem(
            subject=options.desturi, wanted="another host", found=server or "no host named"
        )


# ---------------------------------------------------------------------- XML for the destination


@check(
    "options.changed-xml",
    Severity.BLOCKER,
    title="--xml describes another guest",
    remedy="Start from virsh dumpxml --migratable and change only what the host is to provide.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def changed_xml(xml: DestinationXml, guest: GuestEssentials) -> Problems:
    """What the guest can see must stay: the XML may change paths, networks, addresses to listen on.

    The name must be the old one even with --dname.
    Error: "Target domain max memory 131072 does not match source 65536" and many alike
    (virDomainDefCheckABIStabilityFlags, conf/domain_conf.c).
    """
    if xml.essentials is None:
        yield Problem(subject="--xml", wanted="domain XML", found=xml.bad)
    else:
        yield from _surely_another(xml.essentials, guest.essentials)


def _surely_another(new: Essentials, old: Essentials) -> Iterator[Problem]:
    pairs = (
        ("name", new.name, old.name),
        ("UUID", new.uuid or "none", old.uuid or "none"),
        ("type", new.virt_type or "none", old.virt_type or "none"),
        ("vCPUs", new.vcpus, old.vcpus),
        ("disks", ", ".join(new.disks) or "none", ", ".join(old.disks) or "none"),
        ("NICs", ", ".join(new.macs) or "none", ", ".join(old.macs) or "none"),
    )
    for what, there, here in pairs:
        if there != here:
            yield Problem(subject=f"--xml: {what}", wanted=here, found=there)
    if new.machine != old.machine and VERSIONED_MACHINE.search(new.machine):
        yield Problem(subject="--xml: machine", wanted=old.machine or "none", found=new.machine)
    if None not in (new.memory_kib, old.memory_kib) and new.memory_kib != old.memory_kib:
        yield Problem(
            subject="--xml: memory", wanted=f"{old.memory_kib} KiB", found=f"{new.memory_kib} KiB"
        )


@check(
    "options.changed-xml-cpu",
    Severity.BLOCKER,
    title="--xml asks for the CPU in another way",
    remedy="Start from virsh dumpxml --migratable: without it, the CPU is written out in full.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def changed_xml_cpu(xml: DestinationXml, sent: SentXml) -> Problems:
    """A running guest's own XML tells what its CPU has become, not what was asked for.

    libvirt compares what was asked for. Error: "Target CPU mode custom does not match source
    host-model" or "Target CPU check full does not match source partial" (virCPUDefIsEqual,
    conf/cpu_conf.c).
    """
    if xml.root is not None:
        for name, here, there in another_cpu(sent.root, xml.root):
            yield Problem(subject=f"--xml: CPU {name}", wanted=here, found=there)


@check(
    "options.changed-xml-unjudged",
    Severity.BLOCKER,
    title="whether --xml describes the same guest",
    remedy="Ask libvirt (depth libvirt): it compares the two before it lets the guest go.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def changed_xml_unjudged(
    xml: DestinationXml, guest: GuestEssentials, sent: SentXml, options: MigrationOptions
) -> Problems:
    """The XML beside the guest's own as a migration sends it, less what may surely change.

    That is what only the host sees: paths and formats of disks, what NICs are plugged into, where
    a display listens, huge pages, NUMA cells and CPUs to run on, titles and notes. When all else is
    alike, libvirt finds nothing to refuse; what is not is named, and it is libvirt's to judge.
    """
    if xml.essentials is None or xml.root is None:
        return
    if any(_surely_another(xml.essentials, guest.essentials)):
        return
    if any(another_cpu(sent.root, xml.root)):
        return
    if (found := difference(sent.root, xml.root, options)) is not None:
        yield CouldNotTell(
            subject=f"--xml: {found.path}",
            why=f"besides what may surely change, the guest has {found.guest} and the XML has "
            f"{found.given}; whether libvirt lets that pass is not told by facts",
        )


# ----------------------------------------------------------------------------- the destination


@check(
    "options.postcopy-refused",
    Severity.BLOCKER,
    title="post-copy is not allowed on the host",
    remedy="Allow it with sysctl, or move without --postcopy.",
)
def postcopy_refused(_wanted: PostcopyWanted, host: HostPostcopy) -> Problems:
    """QEMU fetches missing pages by userfaultfd(2), which the kernel may keep from ordinary users.

    Error: "unable to execute QEMU command 'migrate-set-capabilities': Postcopy is not supported"
    (postcopy_ram_supported_by_host, QEMU's migration/postcopy-ram.c).
    """
    if host.refusal:
        yield Problem(
            subject="userfaultfd",
            wanted="allowed to the user that QEMU runs as",
            found=host.refusal,
            commands=("sysctl -w vm.unprivileged_userfaultfd=1",),
        )
    elif host.unclear:
        yield CouldNotTell(subject="userfaultfd", why=host.unclear)


# By the release of QEMU on either side: the last seen to take both, and the one seen to refuse.
TAKES_BOTH = 7_002_999
REFUSES_BOTH = range(10_000_000, 10_001_000)


@check(
    "options.postcopy-parallel",
    Severity.BLOCKER,
    title="post-copy over several connections",
    remedy="Leave out --postcopy or --parallel.",
    phase=Phase.PERFORM,
)
def postcopy_parallel(
    options: MigrationOptions, host: HostVersions, origin: GuestOrigin
) -> Problems:
    """Some releases of QEMU refuse post-copy with multifd, as either side of a move.

    Error: "Postcopy is not yet compatible with multifd" (migrate_caps_check, migration/options.c);
    QEMU 7.2 was seen to take it, QEMU 10.0 to refuse it, on the source when all is prepared.
    """
    if not (options.postcopy and options.parallel):
        return
    for side, version in (("source", origin.qemu_version), ("destination", host.qemu)):
        subject = f"QEMU of the {side}"
        if version is not None and version in REFUSES_BOTH:
            yield Problem(
                subject=subject,
                wanted="one that takes post-copy with --parallel",
                found=f"QEMU {version // 1_000_000}.{version // 1_000 % 1_000}",
            )
        else:
            yield from _untried(subject, version, TAKES_BOTH)


def _untried(subject: str, version: int | None, last_seen_to_take_it: int) -> Problems:
    """Of a release that is not known to refuse it: whether that can be told."""
    if version is None:
        yield CouldNotTell(subject=subject, why="its release is not known")
    elif version > last_seen_to_take_it:
        yield CouldNotTell(subject=subject, why="not tried with its release")


# What QEMU fetches single pages into (test_ramblock_postcopiable, migration/postcopy-ram.c).
FETCHED_INTO = ("tmpfs", "hugetlbfs")


@check(
    "options.postcopy-of-files",
    Severity.BLOCKER,
    title="post-copy into memory that is a file",
    remedy="Move without --postcopy, set memory_backing_dir in qemu.conf to a directory on tmpfs, "
    "or give the guest memory of type memfd.",
)
def postcopy_of_files(
    _wanted: PostcopyOfFiles, folder: MemoryFolder, versions: HostVersions
) -> Problems:
    """A newer QEMU fetches pages only into memory that is no file, or one on tmpfs or hugetlbfs.

    Error: "unable to execute QEMU command 'migrate-set-capabilities': Postcopy is not supported:
    Host backend files need to be TMPFS or HUGETLBFS only"; QEMU 7.2 was seen to take the guest,
    QEMU 10.0 to refuse it.
    """
    if folder.file_system in FETCHED_INTO or versions.qemu <= TAKES_BOTH:
        return
    if versions.qemu in REFUSES_BOTH:
        yield Problem(
            subject=f"memory in {folder.path}",
            wanted="on tmpfs",
            found=f"on {folder.file_system}",
            commands=(f"findmnt -T {shlex.quote(folder.path)}",),
        )
    else:
        yield CouldNotTell(
            subject=f"memory in {folder.path}",
            why=f"on {folder.file_system}, which was not tried with this release of QEMU",
        )


# NAME_MAX of Linux, less ".xml.new", which libvirt writes a guest's state to before it renames it.
NAME_BYTES = 255 - len(".xml.new")


@check(
    "options.name-too-long",
    Severity.BLOCKER,
    title="--dname is too long for a file",
    remedy="Choose a shorter name.",
)
def name_too_long(options: MigrationOptions) -> Problems:
    """libvirt has files that are called after a guest, and Linux has no longer names for them.

    Errors: "Failed to create file '/run/libvirt/qemu/NAME.xml.new': File name too long", "Cannot
    remove stale PID file ...: File name too long".
    """
    length = len(options.dname.encode())
    if length > NAME_BYTES:
        yield Problem(
            subject="--dname", wanted=f"at most {NAME_BYTES} bytes", found=f"{length} bytes"
        )


@check(
    "options.compressed-parallel",
    Severity.BLOCKER,
    title="compressed over several connections",
    remedy="Leave out --compressed or --parallel, or name a method: virsh migrate --comp-methods "
    "zstd.",
)
def compressed_parallel(
    options: MigrationOptions, host: HostVersions, origin: GuestOrigin
) -> Problems:
    """What compresses by default, XBZRLE, has one connection; newer libvirts refuse the two.

    Error: "No compression algorithm selected for parallel migration"
    (qemuMigrationParamsSetCompression, qemu/qemu_migration_params.c), of either side. libvirt 9.0
    was seen to take both, 11.3 to refuse them.
    """
    if not (options.compressed and options.parallel):
        return
    for side, version in (("source", origin.libvirt_version), ("destination", host.libvirt)):
        subject = f"libvirt of the {side}"
        if version is not None and version >= STRICT_LIBVIRT:
            yield Problem(
                subject=subject,
                wanted="one that takes --compressed with --parallel",
                found=f"libvirt {written(version)}",
            )
        else:
            yield from _untried(subject, version, LENIENT_LIBVIRT)


@check(
    "options.hooks",
    Severity.NOTE,
    title="a script of the host has a say",
    remedy="Know what the script does: it may refuse guests or change them.",
    offline=True,
)
def hooks(host: HostHooks) -> Problems:
    """libvirt runs the host's scripts before it takes a guest, and one that fails refuses it.

    Error: "Hook script execution failed" (virHookCall, util/virhook.c).
    """
    for path in host.paths:
        yield Problem(
            subject=path,
            wanted="nobody who decides but libvirt",
            found="a script that may refuse or change the guest",
            commands=(f"cat {shlex.quote(path)}",),
        )
