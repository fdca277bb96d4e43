"""Whether the guest's own host lets it go."""

from __future__ import annotations

import shlex

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.families.state.guest import (
    GuestClock,
    GuestCondition,
    GuestConfidential,
    GuestHypervPassthrough,
    GuestLooseMemory,
    GuestUnmigratable,
)
from virt_preflight.agent.families.state.host import HostClock
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.report import Phase, Severity, Side

# QEMU's list of what it does not migrate was read and tried up to this version. A newer one may
# have learned some of it, so that it is asked rather than judged.
KNOWN_UP_TO = 10_000_999
# These last as long as somebody wants them to; the others mostly end within libvirt's patience.
LASTING_JOBS = ("migration-in", "migration-out", "backup")
# What every KVM offers, and what hv-passthrough does not turn Hyper-V on with.
NOT_OF_KVM = frozenset({"spinlocks", "vendor_id"})
# virDomainTaintMessage (conf/domain_conf.c), which is not translated by a daemon in the C locale.
CUSTOM_MONITOR = "custom monitor control commands issued"
CONFIDENTIAL = ("sev", "sev-snp", "tdx")


@check(
    "state.not-running",
    Severity.BLOCKER,
    title="the guest does not run",
    remedy="Start the guest, or move its definition alone with --offline --persistent.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def not_running(condition: GuestCondition) -> Problems:
    """Only a guest that runs, or is paused, can be moved live.

    Error: "domain is not running" (virDomainObjCheckActive, in qemuMigrationSrcBegin).
    """
    if condition.state is None:
        yield CouldNotTell(subject=condition.name, why="libvirt does not say whether it runs")
    elif condition.state == "shut off":
        yield Problem(subject=condition.name, wanted="running or paused", found="shut off")


@check(
    "state.snapshots",
    Severity.BLOCKER,
    title="libvirt holds snapshots of the guest",
    remedy="Save what libvirt knows of them, forget it, and define it anew on the destination.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
    offline=True,
)
def snapshots(condition: GuestCondition) -> Problems:
    """What libvirt knows of snapshots stays behind, so it does not let the guest go, even offline.

    It counts what it knows, be they internal, external or of images long gone. Checkpoints do not
    count. Error: "cannot migrate domain with 1 snapshots" (qemuMigrationSrcIsAllowed,
    qemu/qemu_migration.c).
    """
    if condition.snapshots is None:
        yield CouldNotTell(subject=condition.name, why="libvirt does not say how many it holds")
    elif condition.snapshots:
        name = shlex.quote(condition.name)
        yield Problem(
            subject=condition.name,
            wanted="no snapshots",
            found=f"{condition.snapshots}",
            commands=(
                f"virsh snapshot-list --name {name}",
                f"virsh snapshot-dumpxml {name} SNAPSHOT > SNAPSHOT.xml",
                f"virsh snapshot-delete {name} SNAPSHOT --metadata",
            ),
        )


@check(
    "state.block-job",
    Severity.BLOCKER,
    title="a block job is under way",
    remedy="Wait until it is done, or end it.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def block_job(condition: GuestCondition) -> Problems:
    """While a disk is being copied, committed, pulled or backed up the guest stays.

    Error: "domain has active block job" (qemuMigrationSrcIsAllowed, qemu/qemu_migration.c).
    """
    if condition.block_jobs is None:
        yield CouldNotTell(subject=condition.name, why="libvirt does not say whether one runs")
        return
    for target in condition.block_jobs:
        at = f"{shlex.quote(condition.name)} {shlex.quote(target)}"
        yield Problem(
            subject=f"disk {target}",
            wanted="no block job",
            found="one is active",
            commands=(f"virsh blockjob {at} --info", f"virsh blockjob {at} --abort"),
        )


@check(
    "state.job",
    Severity.BLOCKER,
    title="another job holds the guest",
    remedy="Wait until it is done, or abort it.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def job(condition: GuestCondition) -> Problems:
    """A guest that is being migrated, backed up, dumped or saved has no time for another job.

    libvirt waits 30 s for jobs other than a migration; one that is done by then does no harm.
    Error: "another migration job is already running for domain 'db1'" (qemuMigrationJobIsAllowed)
    or "cannot acquire state change lock" (virDomainObjBeginJobInternal, conf/virdomainjob.c).
    """
    if condition.job is None:
        yield CouldNotTell(subject=condition.name, why="libvirt does not say whether one runs")
    elif condition.job:
        yield Problem(
            subject=condition.name,
            wanted="no other job",
            found=condition.job,
            commands=(f"virsh domjobinfo {shlex.quote(condition.name)}",),
            severity=None if condition.job in LASTING_JOBS else Severity.RISK,
        )


@check(
    "state.custom-monitor",
    Severity.RISK,
    title="QEMU was given commands past libvirt",
    remedy="Undo what was plugged in or changed that way, or know that it does not matter.",
    side=Side.SOURCE,
    phase=Phase.FINISH,
)
def custom_monitor(condition: GuestCondition) -> Problems:
    """What `virsh qemu-monitor-command` changed libvirt does not know, and no destination has.

    A device that was plugged in that way ends the migration when all memory was sent: "Unknown
    savevm section or instance '...'" (QEMU). libvirt keeps that there was such a command, not
    what it did: "tainted: custom monitor control commands issued". A libvirt before 7.1 does not
    tell it.
    """
    if condition.messages and any(CUSTOM_MONITOR in message for message in condition.messages):
        yield Problem(
            subject=condition.name,
            wanted="a QEMU that only libvirt gave commands to",
            found=f"{CUSTOM_MONITOR}, what they did is not known",
        )


@check(
    "state.io-error",
    Severity.RISK,
    title="paused by an I/O error",
    remedy="Repair the storage and resume the guest first, or see that the destination reaches it.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def io_error(condition: GuestCondition) -> Problems:
    """The guest stopped because a disk failed; it arrives paused, its request to be tried anew.

    libvirt refuses only with --abort-on-error: "cannot migrate domain with I/O error"
    (qemuMigrationSrcIsAllowed, qemu/qemu_migration.c).
    """
    if condition.state == "paused" and condition.reason == "ioerror":
        yield Problem(subject=condition.name, wanted="running", found="paused by an I/O error")


@check(
    "state.invariant-tsc",
    Severity.BLOCKER,
    title="an invariant TSC without its frequency",
    remedy="Set <timer name='tsc' frequency='...'/>, or take invtsc from the CPU.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def invariant_tsc(guest: GuestClock, host: HostClock) -> Problems:
    """A TSC promised to be invariant must not change its pace: QEMU keeps such a guest.

    Unless its frequency is set, which the destination then keeps or refuses. With migratable='off'
    the guest has what its host has.
    Error: "cannot migrate domain: State blocked by non-migratable CPU device (invtsc flag)" (QEMU)
    or "domain has 'invtsc' CPU feature but TSC frequency is not specified"
    (qemuMigrationSrcIsAllowed, qemu/qemu_migration.c).
    """
    if guest.demanded:
        yield Problem(subject="CPU", wanted="a TSC frequency", found="invtsc without one")
    elif guest.passed_through and host.invariant:
        yield Problem(
            subject="CPU", wanted="migratable='on'", found="migratable='off' on a host with invtsc"
        )


@check(
    "state.hyperv-passthrough",
    Severity.BLOCKER,
    title="Hyper-V features passed through",
    remedy="Name the Hyper-V features one by one instead of <hyperv mode='passthrough'>.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def hyperv_passthrough(_guest: GuestHypervPassthrough, seen: SeenCapabilities) -> Problems:
    """What the guest sees depends on its host's kernel, so QEMU keeps it there.

    Where KVM offers no Hyper-V features the mode does nothing, and the guest may go.
    Error: "cannot migrate domain: 'hv-passthrough' CPU flag prevents migration, use explicit set
    of hv-* flags instead" (QEMU, target/i386/kvm/kvm.c).
    """
    features = seen.values.get("features/hyperv/features")
    if features is None:
        yield CouldNotTell(subject="Hyper-V", why="libvirt does not say what KVM offers of it")
    elif features - NOT_OF_KVM:
        yield Problem(subject="Hyper-V", wanted="features by name", found="mode passthrough")


@check(
    "state.confidential",
    Severity.BLOCKER,
    title="a confidential guest",
    remedy="Shut the guest down and start it on the other host.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def confidential(guest: GuestConfidential, versions: HostVersions) -> Problems:
    """Memory that the host cannot read it cannot send either.

    Error: "cannot migrate domain: SEV: Migration is not implemented" and alike (QEMU). A guest of
    s390 (s390-pv) is kept only once it has gone into protected mode by itself.
    """
    if guest.technology in CONFIDENTIAL and versions.qemu <= KNOWN_UP_TO:
        yield Problem(
            subject="launch security", wanted="none", found=f"{guest.technology}, never migrated"
        )
    else:
        yield CouldNotTell(
            subject="launch security", why=f"only QEMU knows whether {guest.technology} migrates"
        )


@check(
    "state.unmigratable-device",
    Severity.BLOCKER,
    title="a device that QEMU does not migrate",
    remedy="Detach the device from the guest, or give it another model and restart it.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def unmigratable_device(guest: GuestUnmigratable, versions: HostVersions) -> Problems:
    """Some device models cannot save their state, and QEMU keeps a guest that has one.

    Error: "cannot migrate domain: non-migratable device: 0000:00:01.0/virtio-crypto", "... The
    vdagent chardev doesn't yet support migration", "... virgl is not yet migratable"
    (qemuMigrationSrcIsAllowed asks QEMU for its blocked-reasons).
    """
    for device in guest.devices:
        if versions.qemu <= KNOWN_UP_TO:
            yield Problem(subject=device, wanted="a device that migrates", found="it does not")
        else:
            yield CouldNotTell(
                subject=device, why="this QEMU may have learned to migrate it: only QEMU knows"
            )


@check(
    "state.dimm-without-address",
    Severity.BLOCKER,
    title="a memory module without slot or address",
    remedy="Give the <memory model='dimm'> its <address type='dimm' slot='...' base='...'/>.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def dimm_without_address(guest: GuestLooseMemory) -> Problems:
    """The destination must plug each module where it is at the source.

    Error: "domain's dimm info lacks slot ID or base address" (qemuMigrationSrcIsAllowed,
    qemu/qemu_migration.c).
    """
    for number in guest.dimms:
        yield Problem(subject=f"dimm {number}", wanted="slot and base address", found="none")


@check(
    "state.shared-memory",
    Severity.BLOCKER,
    title="shared memory of others",
    remedy="Detach the <shmem> device, or give it role='master' if the guest may carry it along.",
    side=Side.SOURCE,
    phase=Phase.BEGIN,
)
def shared_memory(guest: GuestLooseMemory) -> Problems:
    """Memory that others share stays with them, unless this guest is its master.

    Error: "shmem device 'x' cannot be migrated, only shmem with role='master' can be migrated"
    (qemuMigrationSrcIsAllowed) or QEMU's "Migration is disabled when using feature 'peer mode' in
    device 'ivshmem'".
    """
    for name, role in guest.role_by_shmem:
        yield Problem(
            subject=f"shmem {name}", wanted="role master", found=f"role {role or 'peer (default)'}"
        )
