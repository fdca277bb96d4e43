"""The guests that live on this host: found by name, id or UUID, as virsh finds them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from virt_preflight.agent.domain import canonical_uuid
from virt_preflight.agent.sources import Source


class NoSuchDomain(Exception):
    """Nobody of that name, id or UUID lives here."""


class Resident(msgspec.Struct, frozen=True):
    """One guest of this host, running or only defined."""

    name: str
    uuid: str
    id: int | None
    state: str
    persistent: bool

    @property
    def runs(self) -> bool:
        """It has a QEMU process, be it paused."""
        return self.id is not None


def residents(source: Source) -> tuple[Resident, ...]:
    """All of them. Raises SourceError when libvirt does not tell."""
    return msgspec.json.decode(source.libvirt("domains"), type=tuple[Resident, ...])


def matching(found: Sequence[Resident], wanted: str) -> tuple[Resident, ...]:
    """By id, else by UUID, else by name: the order in which virsh looks."""
    by_id = tuple(one for one in found if one.id is not None and str(one.id) == wanted)
    uuid = canonical_uuid(wanted)
    by_uuid = tuple(one for one in found if one.uuid == uuid)
    return by_id or by_uuid or tuple(one for one in found if one.name == wanted)
