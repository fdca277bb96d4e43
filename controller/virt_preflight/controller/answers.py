"""What hosts say, in our own words: verdicts, findings, and silence with its reason."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Generic, TypeVar

from virt_preflight.controller.depth import Depth

T = TypeVar("T")


class Verdict(IntEnum):
    """Ordered from best to worst, so the verdict over many results is their max()."""

    CLEAR = 0
    RISKY = 1
    UNSURE = 2
    BLOCKED = 3


class Severity(IntEnum):
    """How much one finding weighs."""

    NOTE = 0
    RISK = 1
    BLOCKER = 2


class Side(StrEnum):
    """Which host a finding is about."""

    SOURCE = "source"
    DESTINATION = "destination"


class Phase(StrEnum):
    """Where in a migration it would go wrong; AFTER: it arrives, and is worse off."""

    BEGIN = "begin"
    PREPARE = "prepare"
    PERFORM = "perform"
    FINISH = "finish"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not agree. `None` for phase or depth: a newer agent's word for it."""

    check: str
    title: str
    severity: Severity
    side: Side
    phase: Phase | None
    depth: Depth | None
    subject: str
    wanted: str
    found: str
    remedy: str
    commands: tuple[str, ...]
    lasting: bool
    libvirt_error: str
    waived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A check that could not tell. `None` for severity: it may weigh anything."""

    check: str
    title: str
    severity: Severity | None
    side: Side
    subject: str
    why: str
    waived: bool
    depth: Depth | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the guest would take of a host."""

    memory_kib: int
    vcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the host has, before the guest."""

    memory_total_kib: int
    memory_free_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One guest on one host, as that host's agent sees it. `stated` is the agent's own verdict."""

    guest_name: str
    guest_uuid: str
    stated: Verdict
    findings: tuple[Finding, ...]
    unanswered: tuple[Unanswered, ...]
    facts_age_ms: int
    claims: Claims | None
    capacity: Capacity | None
    checks_asked: int
    checks_not_applicable: int
    # None: a newer agent's word for it.
    depth: Depth | None
    shallower_because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A guest as one host lists it."""

    name: str
    uuid: str
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a host says when a guest is looked for."""

    domains: tuple[Domain, ...]
    # What a source would be told to connect to; empty: it is not known, or not told.
    migration_host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What the source says: its own report, and the guest as destinations need to see it.

    The guest is carried on unread: what a newer source adds reaches a newer destination.
    """

    guest: bytes
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """A destination is ready for a rehearsal; or `refused` says why it will not have one."""

    refused: str = ""
    # Files whose owner libvirt would change, and need not: for the source's agent.
    keep_owner_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDescription:
    """Who a host is and what it has."""

    name: str
    uuid: str
    libvirt: str
    qemu: str
    agent: str
    architecture: str
    cpus_online: int
    capacity: Capacity | None
    # None: it could not learn that.
    domains_running: int | None
    facts_age_ms: int
    class_digest: str
    unlearned: tuple[tuple[str, str], ...]
    # When the certificate of its agent runs out, in seconds since the epoch; None: it has none.
    certificate_ends_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDescription:
    """One check as its agent documents it."""

    check: str
    title: str
    severity: Severity | None
    side: Side | None
    phase: Phase | None
    explanation: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(Generic[T]):
    """A host answered."""

    host: str
    said: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """A host gave no answer that can be used. It is listed with the reason, never dropped."""

    host: str
    why: str
    # What an operator could do about it; empty where only the reason can be told.
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Late(Silent):
    """Silent because its time ran out: asking again at once would only wait as long again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached(Silent):
    """Silent because no connection was there, or it broke."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked(Silent):
    """Silent because it was not asked: what it would have been asked about is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """One field of our request that an agent does not accept."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Silent):
    """A host says that the question itself is wrong."""

    objections: tuple[Objection, ...]
