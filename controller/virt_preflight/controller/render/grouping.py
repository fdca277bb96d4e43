"""The same finding on many hosts, said once.

Fifty hosts without a bridge are one fact about a network, not fifty.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from virt_preflight.controller.answers import Finding, Report, Unanswered
from virt_preflight.controller.ranking import Candidate

Item = Finding | Unanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Hosts, and all that was found alike on exactly these."""

    hosts: tuple[str, ...]
    items: tuple[Item, ...]


def blocks(candidates: Sequence[Candidate], source_report: Report | None) -> list[Block]:
    """Every item of every host exactly once, in the order of the hosts.

    What the source found is left out: it holds for all, and is shown under the source's name.
    """
    known: set[Item] = set(_items(source_report)) if source_report else set()
    hosts_by_item: dict[Item, list[str]] = {}
    for one in candidates:
        for item in _unrepeated(one.findings, one.unanswered):
            if item not in known:
                hosts_by_item.setdefault(item, []).append(one.host)
    items_by_hosts: dict[tuple[str, ...], list[Item]] = {}
    for item, hosts in hosts_by_item.items():
        items_by_hosts.setdefault(tuple(hosts), []).append(item)
    return [
        Block(hosts=hosts, items=weightiest_first(items)) for hosts, items in items_by_hosts.items()
    ]


def source_block(source: str, report: Report) -> Block:
    """What the source found, under its own name."""
    return Block(hosts=(source,), items=weightiest_first(_items(report)))


def weightiest_first(items: Iterable[Item]) -> tuple[Item, ...]:
    """Findings before what could not be told, each the heaviest first, waived ones last."""
    return tuple(sorted(items, key=_order))


def _unrepeated(findings: Iterable[Finding], unanswered: Iterable[Unanswered]) -> Iterable[Item]:
    items: list[Item] = [*findings, *unanswered]
    return dict.fromkeys(items)


def _items(report: Report) -> tuple[Item, ...]:
    return (*report.findings, *report.unanswered)


def _order(item: Item) -> tuple[bool, bool, int]:
    weight = 0 if item.severity is None else -item.severity
    return item.waived, isinstance(item, Unanswered), weight
