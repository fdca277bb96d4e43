"""A scenario: a guest, what differs between two hosts, the options, and what will come of it.

In all texts @name is the guest's name (and the scenario's), @uuid its UUID, @source-uuid and
@destination-uuid are the hosts', @source-address the source's, @destination-name what the
destination is called, @lesser0 and @lesser1 the features that a lesser CPU lacks.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

from tests.lab.faults import Fault
from tests.lab.guests import Guest
from tests.lab.hosts import NAMESPACE, Lab

T = TypeVar("T")

NOBODY_IN_PARTICULAR = Guest(name="@name")
OLDEST = NOBODY_IN_PARTICULAR.machine  # which every release has
UNSAFE = ("--unsafe",)  # /srv/shared is shared in truth, which libvirt cannot know


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One story with its end."""

    id: str
    guest: Guest = NOBODY_IN_PARTICULAR
    # One that cannot run here at all is asked about by its XML, and the truth is a start there.
    runs: Literal["source", "nowhere"] = "source"
    source: str = "h1"
    destination: str = "h2"
    on_source: tuple[Fault, ...] = ()  # before the guest starts
    on_destination: tuple[Fault, ...] = ()
    then_on_source: tuple[Fault, ...] = ()  # while it runs
    then_on_destination: tuple[Fault, ...] = ()
    options: tuple[str, ...] = UNSAFE
    mode: tuple[str, ...] = ("--live", "--p2p")
    rewrite: tuple[tuple[str, str], ...] = ()  # in the XML that the destination is to have
    pages: int = 0  # 2 MiB pages that the kernel reserves meanwhile
    arrives_as: str = ""
    expect: Literal["migrates", "fails"]
    checks: tuple[str, ...] = ()  # any of them should foretell it
    says: str = ""  # a part of the real migration's error
    needs: tuple[str, ...] = ()
    told_from: str = "facts"  # the shallowest depth that has to foretell it
    beyond: str = ""  # why shallower ones cannot
    unsure_ok: str = ""  # why nobody could be sure beforehand (or, with `told_from`, before that)


def both(*arranged: Fault) -> dict[str, tuple[Fault, ...]]:
    """The same on both hosts."""
    return {"on_source": arranged, "on_destination": arranged}


def migrates(id: str, **parts: Any) -> Scenario:  # noqa: A002
    return Scenario(id=id, expect="migrates", **parts)


def fails(id: str, *checks: str, says: str, **parts: Any) -> Scenario:  # noqa: A002
    return Scenario(id=id, expect="fails", checks=checks, says=says, **parts)


def guest(**parts: Any) -> Guest:
    return Guest(name="@name", **parts)


def newest(scenario: Scenario, **parts: Any) -> Scenario:
    """The same story between two hosts of the newest release."""
    machine = scenario.guest.machine
    guest = replace(scenario.guest, machine="pc-q35-10.0" if machine == OLDEST else machine)
    changed = {"source": "h3", "destination": "h6", "guest": guest, **parts}
    return replace(scenario, id=f"{scenario.id}-newest", **changed)


# ---------------------------------------------------------------------- filling in the blanks


def here(scenario: Scenario, lab: Lab) -> Scenario:
    """The scenario with all its blanks filled in for this lab."""
    done = filled(scenario, scenario, lab)
    return replace(done, guest=replace(done.guest, name=scenario.id))


def filled(value: T, scenario: Scenario, lab: Lab) -> T:
    """The same value with the blanks of its texts filled in, however deep they are."""
    lesser = (*lab.lesser, "clwb", "clflushopt")
    blanks = {
        "@name": scenario.id,
        "@uuid": str(uuid.uuid5(NAMESPACE, f"guest {scenario.id}")),
        "@source-uuid": lab[scenario.source].uuid,
        "@destination-uuid": lab[scenario.destination].uuid,
        "@destination-name": scenario.destination,
        "@source-address": lab[scenario.source].address,
        "@lesser0": lesser[0],
        "@lesser1": lesser[1],
    }

    def fill(part: Any) -> Any:
        if isinstance(part, str):
            for blank, text in blanks.items():
                part = part.replace(blank, text)
            return part
        if isinstance(part, tuple):
            return tuple(fill(item) for item in part)
        if is_dataclass(part) and not isinstance(part, type):
            return replace(part, **{f.name: fill(getattr(part, f.name)) for f in fields(part)})
        return part

    done: T = fill(value)
    return done
