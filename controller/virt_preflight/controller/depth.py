"""How far a dry run goes to know."""

from enum import StrEnum


class Depth(StrEnum):
    """By the names of the command line; each asks all that the ones before it ask, and more."""

    FACTS = "facts"
    LIBVIRT = "libvirt"
    TRIAL = "trial"
    REHEARSAL = "rehearsal"
