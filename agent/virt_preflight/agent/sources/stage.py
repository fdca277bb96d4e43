"""The second door to a host, narrower still: what is played there for a moment and taken back.

`Source` reads; here something happens, and nothing of it stays. Only the asks of the depths
`trial` and `rehearsal` knock at it. What answers without a host behind it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from virt_preflight.agent.sources import Impossible

# What stands in for a guest is called so, with eight hexadecimal digits behind: whoever meets it
# in a log, in a hook or among the domains knows whose it is.
STANDIN = "virt-preflight-dry-run-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A guest that never runs: what libvirt is given to prepare, and what to clear up after it."""

    name: str
    uuid: str
    domain_xml: bytes
    cookie: bytes
    # virDomainMigrateFlags and VIR_MIGRATE_PARAM_*, by libvirt's numbers and names.
    flags: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    # Paths that come to be with it and were not there before; each is called as it is.
    files: tuple[str, ...] = ()
    # Paths of the guest's own that it opens too: the running guest's, so each stays as it is.
    opened: tuple[str, ...] = ()


class NoPhases(Impossible):
    """This libvirt does not give the phases of a migration away one by one; the text says why."""


class Stage(Protocol):
    """One host. Every verb is bounded in time and raises a SourceError when it has no answer.

    Whatever becomes of the one who asked - gone, out of time - what was begun is taken back.
    """

    def trial(self, act: Act) -> bytes:
        """The Prepare phase, a look, and Finish, cancelled: the XML that libvirt made of it.

        LibvirtRefused with its words; NoPhases; Impossible when this is no host for it.
        """

    def shadow(self, act: Act) -> bytes:
        """The same for hosts without those phases: created paused, looked at, destroyed."""

    def tidy(self) -> None:
        """Clear up after acts whose agent was killed in the middle, unless they still run."""


@runtime_checkable
class Staged(Protocol):
    """A source that has a stage beside it: the live machine, no recording."""

    stage: Stage
