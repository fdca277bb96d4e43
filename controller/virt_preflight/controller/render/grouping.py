"""The same thing found many times, said once.

Fifty hosts without a bridge are one fact about a network, not fifty; and a libvirtd that hangs is
one fact about a host, not one for each check that needed it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from virt_preflight.controller.answers import Finding, Report, Unanswered
from virt_preflight.controller.ranking import Candidate

Item = Finding | Unanswered

# Two open questions with one cause are still read sooner than looked up.
FOLDED_FROM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Hosts, and all that was found alike on exactly these."""

    hosts: tuple[str, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Open questions that have one cause."""

    items: tuple[Unanswered, ...]
    cause: str


def blocks(candidates: Sequence[Candidate], source_report: Report | None) -> list[Block]:
    """Every item of every host exactly once, in the order of the hosts.

    What the source found is left out: it holds for all, and is shown under the source's name.
    """
    known = set(map(_alike, _items(source_report))) if source_report else set()
    hosts_by_item: dict[Item, list[str]] = {}
    shown_by_item: dict[Item, Item] = {}
    for one in candidates:
        for alike, item in _unrepeated(one.findings, one.unanswered).items():
            if alike not in known:
                hosts_by_item.setdefault(alike, []).append(one.host)
                shown_by_item.setdefault(alike, item)
    items_by_hosts: dict[tuple[str, ...], list[Item]] = {}
    for alike, hosts in hosts_by_item.items():
        items_by_hosts.setdefault(tuple(hosts), []).append(shown_by_item[alike])
    return [
        Block(hosts=hosts, items=weightiest_first(items)) for hosts, items in items_by_hosts.items()
    ]


def source_block(source: str, report: Report) -> Block:
    """What the source found, under its own name."""
    return Block(hosts=(source,), items=weightiest_first(_items(report)))


def weightiest_first(items: Iterable[Item]) -> tuple[Item, ...]:
    """Findings before what could not be told, each the heaviest first, waived ones last."""
    return tuple(sorted(items, key=_order))


def folded(items: Sequence[Item]) -> list[Item | Fold]:
    """The same, but open questions of one cause are one, at the place of the first of them."""
    alike: dict[tuple[str, bool], list[Unanswered]] = {}
    for item in items:
        if isinstance(item, Unanswered):
            alike.setdefault(_cause_of(item), []).append(item)
    told: list[Item | Fold] = []
    for item in items:
        group = alike[_cause_of(item)] if isinstance(item, Unanswered) else []
        if len(group) < FOLDED_FROM:
            told.append(item)
        elif item is group[0]:
            told.append(Fold(items=tuple(group), cause=cause(group[0].why)))
    return told


def cause(why: str) -> str:
    """A reason without the names of the facts that it kept from us: `disks: no answer; cpu: ...`.

    An agent puts one before each part (factstore.py); what is left is the same for all of them.
    """
    parts = (re.sub(r"^[a-z_]+: ", "", part) for part in why.split("; "))
    return "; ".join(dict.fromkeys(parts))


def alike_cause(why: str) -> str:
    """Seconds waited so far differ from one question to the next, and their cause does not."""
    seconds = re.compile(r"\b[0-9]+(\.[0-9]+)? s\b")
    parts = (seconds.sub("… s", part) for part in cause(why).split("; "))
    return "; ".join(dict.fromkeys(parts))


def _cause_of(item: Unanswered) -> tuple[str, bool]:
    return alike_cause(item.why), item.waived


def _alike(item: Item) -> Item:
    """What two hosts must have in common: libvirt's words may name pids and times of the host."""
    return replace(item, libvirt_error="") if isinstance(item, Finding) else item


def _unrepeated(findings: Iterable[Finding], unanswered: Iterable[Unanswered]) -> dict[Item, Item]:
    items: list[Item] = [*findings, *unanswered]
    first: dict[Item, Item] = {}
    for item in items:
        first.setdefault(_alike(item), item)
    return first


def _items(report: Report) -> tuple[Item, ...]:
    return (*report.findings, *report.unanswered)


def _order(item: Item) -> tuple[bool, bool, int]:
    weight = 0 if item.severity is None else -item.severity
    return item.waived, isinstance(item, Unanswered), weight
