"""What the user wants to know, and all that was said to it."""

from dataclasses import dataclass

from virt_preflight.controller.answers import Heard, Report, Silent
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.options import MigrationOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Which checks to ask, and how far to go."""

    depth: Depth = Depth.LIBVIRT
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    waive: tuple[str, ...] = ()
    # What a rehearsal may touch though others will notice it.
    allow: tuple[str, ...] = ()
    # How old facts may be, 0 being read anew. None: as old as the agents let them become.
    max_age_s: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """Domain XML of a guest that runs nowhere yet, and the name of the file it came from."""

    name: str
    xml: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the user wants to know. `guest` is a guest by name, id or UUID, or one from a file."""

    guest: str | GuestFile
    from_host: str | None = None
    to_hosts: tuple[str, ...] = ()
    # Of those, only the hosts that have all of these, each `key=value`.
    labels: tuple[str, ...] = ()
    options: MigrationOptions
    questions: Questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All that was said. `source` is None for a guest that runs nowhere yet."""

    name: str
    uuid: str
    source: str | None
    source_report: Report | None
    answers: tuple[Heard[Report] | Silent, ...]
