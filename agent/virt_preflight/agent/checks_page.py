"""CHECKS.md from the checks themselves: `python -m virt_preflight.agent.checks_page`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.check import AnyCheck

HEAD = """\
# Checks

Generated from the code by `make generate`: edit the docstrings there.

BLOCKER: libvirt or QEMU would refuse, or the guest would break. RISK: it would move and be worse
off, or may be. NOTE: good to know. The side is the host on which the cause, and the remedy, are;
the phase is the one of the migration that would trip over it, "after" when none does.
"""


def page(checks: Iterable[AnyCheck]) -> str:
    """Markdown: a section for each family, in the families' order."""
    return "\n".join(line.rstrip() for line in _lines(tuple(checks))) + "\n"


def _lines(checks: tuple[AnyCheck, ...]) -> Iterator[str]:
    yield HEAD
    yield f"{len(checks)} checks."
    for family, members in groupby(checks, key=lambda check: check.family):
        yield f"\n## {family}"
        for check in members:
            yield f"\n### {check.id}"
            yield ""
            side, phase = check.side.value, check.phase.value
            yield f"**{check.severity.name}** · {check.title} · {side}, {phase}"
            yield ""
            yield check.explanation
            yield ""
            yield f"*Remedy:* {check.remedy}"


if __name__ == "__main__":
    print(page(catalogue().checks), end="")  # noqa: T201 - it is what the command is for
