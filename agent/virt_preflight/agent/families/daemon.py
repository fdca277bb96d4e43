"""libvirtd: whether it answers, whom it runs QEMU as, and what its qemu.conf says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.fact import Pace, have
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Absent, Refused, Source, Unreached, Unreadable, User
from virt_preflight.agent.xml import parse

QEMU_CONF = "/etc/libvirt/qemu.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuConf:
    """Settings of qemu.conf as written; what is not there has libvirt's default."""

    value_by_key: Mapping[str, str]

    def flag(self, key: str, *, default: bool) -> bool:
        """A number that means yes or no."""
        value = self.value_by_key.get(key)
        return default if value is None else value.strip() not in ("0", "")

    def string(self, key: str) -> str | None:
        """A quoted string without its quotes; None when it is not set."""
        value = self.value_by_key.get(key)
        return None if value is None else value.strip().strip("\"'")

    def ports(self, name: str, default: range) -> range:
        """A range of ports, `name`_min to `name`_max; the default where it is not told."""
        low = self.value_by_key.get(f"{name}_min", str(default.start)).strip()
        high = self.value_by_key.get(f"{name}_max", str(default.stop - 1)).strip()
        told = low.isascii() and low.isdigit() and high.isascii() and high.isdigit()
        return range(int(low), min(int(high), 65535) + 1) if told else default

    @property
    def lock_manager(self) -> str:
        """Who keeps two hosts from starting one guest: "nop" is nobody, and libvirt's default."""
        return self.string("lock_manager") or "nop"


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuUser:
    """Whom QEMU runs as, and whether libvirtd gives it the guest's files before it starts."""

    user: User
    dynamic_ownership: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonAnswer:
    """Why libvirtd does not answer: `down` when that is sure; both empty when it does."""

    down: str = ""
    unclear: str = ""


@have(Pace.FIXED)
def qemu_conf(source: Source) -> QemuConf:
    """The last setting of a key wins. Lists are kept as written (virConfParse, util/virconf.c)."""
    try:
        text = source.text(QEMU_CONF)
    except Absent:
        return QemuConf(value_by_key={})
    settings = re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\[[^]]*\]|[^#\n]*)", text, re.MULTILINE)
    return QemuConf(value_by_key={key: value.strip() for key, value in settings})


@have(Pace.FIXED)
def qemu_user(source: Source, conf: QemuConf) -> QemuUser:
    """From the DAC label that libvirt names in its capabilities: `+64055:+105`."""
    for model in parse(source.libvirt("capabilities")).findall("host/secmodel"):
        if model.findtext("model") != "dac":
            continue
        for label in model.findall("baselabel"):
            if match := re.fullmatch(r"\+?(\w+):\+?(\w+)", (label.text or "").strip()):
                return QemuUser(
                    user=source.user(match[1], match[2]),
                    dynamic_ownership=conf.flag("dynamic_ownership", default=True),
                )
    raise Unreadable("libvirt's capabilities name no DAC label")


@have(Pace.MOVING)
def daemon_answer(source: Source) -> DaemonAnswer:
    """A question that every libvirtd answers at once."""
    try:
        source.libvirt("hostname")
    except (Absent, Refused, Unreached) as error:
        return DaemonAnswer(down=str(error))
    except Unreadable as error:
        return DaemonAnswer(unclear=str(error))
    return DaemonAnswer()


@check(
    "daemon.not-answering",
    Severity.BLOCKER,
    title="libvirtd does not answer",
    remedy="Start libvirtd on the host (systemctl start libvirtd or virtqemud) and ask again.",
    offline=True,
)
def not_answering(answer: DaemonAnswer) -> Problems:
    """Without a libvirtd that answers there is nobody to take the guest.

    A refused connection is sure; one that hangs may come back, so it is left open.
    """
    if answer.down:
        yield Problem(subject="libvirtd", wanted="an answer", found=answer.down)
    if answer.unclear:
        yield CouldNotTell(subject="libvirtd", why=answer.unclear)


@check(
    "daemon.tls-forced",
    Severity.BLOCKER,
    title="migration only with TLS",
    remedy="Ask and migrate with --tls, or lift migrate_tls_force in qemu.conf.",
)
def tls_forced(conf: QemuConf, options: MigrationOptions) -> Problems:
    """A host may insist on TLS for the migration stream (qemu.conf, migrate_tls_force).

    Error: "this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag"
    (qemuMigrationDstPrepareAny, qemu/qemu_migration.c). A tunnelled migration is let through.
    """
    if conf.flag("migrate_tls_force", default=False) and not (options.tls or options.tunnelled):
        yield Problem(subject="migration", wanted="--tls", found="migrate_tls_force = 1, no --tls")


@check(
    "daemon.tls-forced-at-source",
    Severity.BLOCKER,
    title="migration only with TLS",
    remedy="Ask and migrate with --tls, or lift migrate_tls_force in qemu.conf.",
    side=Side.SOURCE,
    phase=Phase.PERFORM,
)
def tls_forced_at_source(conf: QemuConf, options: MigrationOptions) -> Problems:
    """What a host insists on as a destination, it insists on as a source.

    Error: "this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag"
    (qemuMigrationSrcPerform, qemu/qemu_migration.c; seen with 9.0 and 11.3).
    """
    yield from tls_forced(conf, options)


@check(
    "daemon.other-lock-manager",
    Severity.NOTE,
    title="disks are locked in another way",
    remedy="Set the same lock_manager in qemu.conf on both hosts.",
    phase=Phase.AFTER,
)
def other_lock_manager(conf: QemuConf, origin: GuestOrigin) -> Problems:
    """lock_manager of qemu.conf guards a guest's disks only among hosts that have the same one.

    libvirt means to refuse such a move ("Source host lock driver %s different from target %s",
    qemu/qemu_migration_cookie.c), but 9.0 and 11.3 let it pass: the guest moves.
    """
    if origin.lock_manager and origin.lock_manager != conf.lock_manager:
        yield Problem(
            subject="lock_manager",
            wanted=f"{origin.lock_manager} as on {origin.host_name}",
            found=conf.lock_manager,
        )
