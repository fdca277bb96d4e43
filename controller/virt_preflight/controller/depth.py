"""How far a dry run goes to know."""

from collections.abc import Iterable
from enum import StrEnum


class Depth(StrEnum):
    """By the names of the command line; each asks all that the ones before it ask, and more."""

    FACTS = "facts"
    LIBVIRT = "libvirt"
    TRIAL = "trial"
    REHEARSAL = "rehearsal"


# How many seconds longer than for facts one host is waited for: a trial starts a QEMU; a rehearsal
# may have to take all of the guest's memory, or wait for a connection to time out.
LONGER_S = {Depth.FACTS: 0.0, Depth.LIBVIRT: 0.0, Depth.TRIAL: 5.0, Depth.REHEARSAL: 10.0}


def shallowest(depths: Iterable[Depth | None]) -> Depth | None:
    """The one that asks least. None, a depth that has no name here, may be any."""
    found = set(depths)
    return None if None in found else next((depth for depth in Depth if depth in found), None)
