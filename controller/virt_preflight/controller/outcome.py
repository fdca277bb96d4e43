"""How an answer becomes an exit code."""

from collections.abc import Sequence
from enum import Enum

from virt_preflight.controller.answers import Verdict
from virt_preflight.controller.exits import Exit
from virt_preflight.controller.ranking import Candidate


class Demand(Enum):
    """Whether one host that can take the guest is enough, or all that were named must."""

    ANY = "any"
    EVERY = "every"


def exit_code(candidates: Sequence[Candidate], demand: Demand) -> Exit:
    """Whether the guest can go where it was asked about."""
    takers = [one for one in candidates if one.takes_it]
    if takers and (demand is Demand.ANY or len(takers) == len(candidates)):
        return Exit.OK
    if not takers and any(one.verdict is Verdict.UNSURE for one in candidates):
        return Exit.CANNOT_SAY
    return Exit.CANNOT_TAKE


def strict_exit_code(candidates: Sequence[Candidate], demand: Demand) -> Exit:
    """The same, but a yes that rests on a risky host is a warning.

    A risk on one host does not matter as long as another, clear one is all that was asked for.
    """
    code = exit_code(candidates, demand)
    clear = [one for one in candidates if one.verdict is Verdict.CLEAR]
    enough = clear if demand is Demand.ANY else len(clear) == len(candidates)
    return code if code is not Exit.OK or enough else Exit.WARNED
