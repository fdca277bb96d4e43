"""What libvirt said when it was asked: facts like any others, in the words of our checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from virt_preflight.agent.check import Problem
from virt_preflight.agent.depth import Depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One thing that does not agree, and the id of the check that it belongs to."""

    check: str
    problem: Problem
    # Other checks whose fault libvirt tells in the same words.
    alike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """What came of one ask: at most one of `doubt` and `impossible` is not empty."""

    # As an operator would name it: "libvirt's Begin phase".
    ask: str
    depth: Depth
    said: tuple[Said, ...] = ()
    # It was asked, or should have been, and there is no answer: why.
    doubt: str = ""
    # This host cannot be asked that at all: why. The answer is then a shallower one.
    impossible: str = ""
    # Checks, by id, whose very question libvirt answered: left open, they are so no more.
    decides: frozenset[str] = frozenset()
    # What asking has left on this host, and why it is still there.
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearings:
    """All that was asked for one guest on one host."""

    heard: tuple[Hearing, ...]

    def said(self) -> Iterator[tuple[Hearing, Said]]:
        """Everything said, with the ask that it came from."""
        for hearing in self.heard:
            for said in hearing.said:
                yield hearing, said

    def reached(self, wanted: Depth) -> Depth:
        """As deep as this host could be asked."""
        impossible = [hearing.depth for hearing in self.heard if hearing.impossible]
        return Depth(min([wanted, *(depth - 1 for depth in impossible)]))

    def shallower_because(self) -> str:
        """Why not as deep as wanted; empty when it is."""
        reasons = [f"{one.ask}: {one.impossible}" for one in self.heard if one.impossible]
        return "; ".join(dict.fromkeys(reasons))
