"""Places guests on hosts through a controller: `scheduler.py --server ADDRESS GUEST...`.

An example to start from. A GUEST is the name of one that runs somewhere on the fleet, or a file of
domain XML for one that runs nowhere yet. Every guest is asked about by `Rank`; of the hosts that
can take it, the one gets it that has most memory left. What it has promised itself it keeps account
of: the hosts do not know it until the guests are there.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from virt_preflight.controller.answers import Verdict
from virt_preflight.controller.client import BusyError, Controller, Ranking
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.exchange import Ranked
from virt_preflight.controller.question import GuestFile, Questions
from virt_preflight.controller.trouble import CannotRunError, MisusedError

# Facts are enough to choose by, and swift; before the move itself ask again, deeper. What a host
# said a moment ago serves the next guests as well: what is promised meanwhile is known here.
QUESTIONS = Questions(depth=Depth.FACTS, max_age_s=10)
# Fewer than the controller lets one caller have under way at a time.
AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a guest is to go and what is to be said about it, or why nowhere."""

    guest: str
    host: str | None
    why: str = ""


def ask(controller: Controller, guest: str | GuestFile, within_s: float) -> Ranking | str:
    """The hosts for one guest, or why there are none. Who is too busy is asked once more."""
    for last in (False, True):
        try:
            return controller.rank(guest, within_s=within_s, questions=QUESTIONS)
        except BusyError as error:
            if last:
                return str(error)
        except (MisusedError, CannotRunError) as error:
            return str(error)
    raise AssertionError("the last one returns")


def left_kib(one: Ranked, promised: Counter[str]) -> int | None:
    """Memory that the host has left with this guest and those promised to it; None: not known."""
    if one.capacity is None or one.claims is None:
        return None
    return one.capacity.memory_free_kib - promised[one.host] - one.claims.memory_kib


def choose(guest: str, ranking: Ranking | str, promised: Counter[str]) -> Placed:
    """The best host that still has room, CLEAR before RISKY; it is promised the guest's memory."""
    if isinstance(ranking, str):
        return Placed(guest=guest, host=None, why=ranking)
    fitting: list[tuple[bool, int, Ranked]] = []
    for one in ranking.best:
        left = left_kib(one, promised)
        if left is not None and left >= 0:
            fitting.append((one.verdict is Verdict.CLEAR, left, one))
    if not fitting:
        return Placed(guest=guest, host=None, why=_why_nowhere(ranking))
    _, _, chosen = max(fitting, key=lambda it: it[:2])
    if chosen.claims is not None:
        promised[chosen.host] += chosen.claims.memory_kib
    why = "; ".join(filter(None, (chosen.why, _unheard(ranking))))
    return Placed(guest=guest, host=chosen.host, why=why)


def _unheard(ranking: Ranking) -> str:
    """The place is a good one, but there may have been better: not all have said."""
    missing = len(ranking.missing)
    return f"{missing} of {ranking.hosts} hosts could not say" if missing else ""


def _why_nowhere(ranking: Ranking) -> str:
    if ranking.takers:
        return f"{ranking.takers} of {ranking.hosts} hosts could take it, and none has room left"
    reasons = [f"{one.hosts} × {one.title}" for one in ranking.reasons]
    silent = [f"{len(ranking.missing)} could not say"] if ranking.missing else []
    return f"none of {ranking.hosts} hosts: {', '.join(reasons + silent)}"


def place(
    controller: Controller, guests: Iterable[tuple[str, str | GuestFile]], within_s: float = 10.0
) -> Iterator[Placed]:
    """Each guest's place, in the order of the guests; several are asked about at a time."""
    promised: Counter[str] = Counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        asked = [(name, threads.submit(ask, controller, guest, within_s)) for name, guest in guests]
        for name, answer in asked:
            yield choose(name, answer.result(), promised)


def named(word: str) -> tuple[str, str | GuestFile]:
    """A guest as the command line names it."""
    file = Path(word)
    if not file.is_file():
        return word, word
    return file.stem, GuestFile(name=word, xml=file.read_bytes())


def main() -> int:
    """0 all have a place · 1 some have none."""
    parser = argparse.ArgumentParser(description="Places guests on hosts through a controller.")
    parser.add_argument("--server", required=True, metavar="ADDRESS")
    parser.add_argument("--within", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("guests", nargs="+", metavar="GUEST")
    given = parser.parse_args()
    with Controller(given.server) as controller:
        placed = list(place(controller, map(named, given.guests), given.within))
    for one in placed:
        print(f"{one.guest}\t{one.host or '-'}\t{one.why}")
    return 0 if all(one.host for one in placed) else 1


if __name__ == "__main__":
    sys.exit(main())
