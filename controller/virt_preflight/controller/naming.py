"""Hosts named in a sentence."""

from collections.abc import Iterable, Sequence

from virt_preflight.controller.answers import Silent

LISTED_AT_MOST = 8


def told(silent: Iterable[Silent]) -> str:
    """Who did not answer, by the reason: "no answer from h3, h5 (no answer within 5 s)"."""
    hosts_by_why: dict[str, list[str]] = {}
    for one in silent:
        hosts_by_why.setdefault(one.why, []).append(one.host)
    return "; ".join(f"{listed(hosts)}: {why}" for why, hosts in hosts_by_why.items())


def listed(names: Sequence[str]) -> str:
    """Names in one line, a long list cut with the number of those left out."""
    if len(names) <= LISTED_AT_MOST:
        return ", ".join(names)
    return f"{', '.join(names[:LISTED_AT_MOST])} and {len(names) - LISTED_AT_MOST} more"
