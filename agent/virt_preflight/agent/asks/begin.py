"""libvirt's own Begin phase on the source: whether the guest may leave, as libvirt decides it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from virt_preflight.agent.asks.flags import Migrate, flags_of, parameters_of
from virt_preflight.agent.asks.refusals import said_of
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Side
from virt_preflight.agent.sources import Impossible, LibvirtRefused, Source, SourceError

# One thing libvirt brings up to date in it: of a drive that was emptied while the guest runs it
# forgets what the medium's driver was (qemuDomainCheckEjectableMedia; seen in the live XML of 9.0).
ASK = "libvirt's Begin phase"

# What libvirt itself looks at in qemuMigrationSrcBegin (qemu/qemu_migration.c): a question of these
# that facts leave open is answered when it lets the guest go. Not among them: jobs, for which it
# only waits, and what its client, the destination or Perform decide.
DECIDED = frozenset(
    {
        "disks.unsafe",
        "disks.transient",
        "hostdevs.pci-not-migratable",
        "hostdevs.mdev-not-migratable",
        "hostdevs.vhost-scsi-not-migratable",
        "options.changed-xml",
        "options.changed-xml-cpu",
        "options.changed-xml-unjudged",
        "options.no-such-disk",
        "options.offline-not-persistent",
        "options.offline-tunnelled",
        "options.offline-with-storage",
        "options.postcopy-not-live",
        "options.postcopy-tunnelled",
        "shares.virtiofs-stays",
        "state.block-job",
        "state.dimm-without-address",
        "state.invariant-tsc",
        "state.not-running",
        "state.shared-memory",
        "state.snapshots",
    }
)
# What QEMU knows of itself: libvirt asks it since it asks for `blocked-reasons` (query-migrate).
DECIDED_BY_QEMU = frozenset(
    {
        "disks.immovable-format",
        "shares.mounted",
        "state.confidential",
        "state.hyperv-passthrough",
        "state.unmigratable-device",
    }
)
# Of the oldest that it was seen with; QEMU tells them since 6.0. Older pairs find out in Perform.
ASKS_QEMU = 9_000_000
QEMU_TELLS = 6_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What Begin said, and its cookie for destinations; empty when there is none."""

    hearing: Hearing
    cookie: bytes = b""


def begin(source: Source, uuid: str, options: MigrationOptions) -> Begun:
    """Ask. The guest's job is taken for the moment that it takes, and given back by libvirt itself.

    That is qemuMigrationSrcBegin without CHANGE_PROTECTION. While another holds the job - a save, a
    dump, a migration - libvirt waits for it, up to 30 s; we do not.
    """
    flags = flags_of(options) & ~Migrate.CHANGE_PROTECTION
    parameters = json.dumps(parameters_of(options))
    try:
        cookie = source.libvirt("begin", uuid, str(int(flags)), parameters)
    except LibvirtRefused as error:
        said = said_of(error, depth=Depth.LIBVIRT, side=Side.SOURCE, phase=Phase.BEGIN)
        return Begun(hearing=Hearing(ask=ASK, depth=Depth.LIBVIRT, said=(said,)))
    except Impossible as error:
        return Begun(hearing=Hearing(ask=ASK, depth=Depth.LIBVIRT, impossible=str(error)))
    except SourceError as error:
        return Begun(hearing=Hearing(ask=ASK, depth=Depth.LIBVIRT, doubt=str(error)))
    return Begun(
        hearing=Hearing(ask=ASK, depth=Depth.LIBVIRT, decides=decided(source)),
        cookie=cookie.encode(),
    )


def decided(source: Source) -> frozenset[str]:
    """The checks whose question is answered when libvirt there lets a guest go."""
    try:
        told = json.loads(source.libvirt("version"))
        asks_qemu = told["libvirt"] >= ASKS_QEMU and told["qemu"] >= QEMU_TELLS
    except (SourceError, ValueError, TypeError, KeyError):
        asks_qemu = False
    return DECIDED | DECIDED_BY_QEMU if asks_qemu else DECIDED
