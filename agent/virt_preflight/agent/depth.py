"""How far a dry run goes to know."""

from __future__ import annotations

from enum import IntEnum


class Depth(IntEnum):
    """Each depth asks all that the shallower ones ask, and more."""

    # Domain XML and migration options against the host's facts.
    FACTS = 1
    # Also libvirt itself, by questions that change nothing.
    LIBVIRT = 2
    # Also the destination's own Prepare phase, for a stand-in, then cancelled.
    TRIAL = 3
    # Also the real Begin and Prepare of the guest itself, then cancelled.
    REHEARSAL = 4

    @property
    def spoken(self) -> str:
        """As the command line has it."""
        return self.name.lower()
