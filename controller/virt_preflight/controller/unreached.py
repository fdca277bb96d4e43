"""What gRPC says where nobody was reached, what it means to an operator, and what next."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


class Step(Enum):
    """What is to be done about it."""

    START = auto()
    REACH = auto()
    RESOLVE = auto()
    PERMIT = auto()
    RAISE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Who was to be reached, and each step in the words for him: `{name}`, `{address}`."""

    called: str
    steps: Mapping[Step, str]


# To be done here, whoever was sought.
OURS = {Step.PERMIT: "Ask as a user that may use it.", Step.RAISE: ""}
AGENT = Sought(
    called="agent",
    steps={
        Step.START: "Start virt-preflight-agent on {name}, or check that it listens at {address}.",
        Step.REACH: "See whether {name} is up and {address} can be reached from here.",
        Step.RESOLVE: "Give {name} an address: in the fleet file, or as --hosts {name}=ADDRESS.",
        **OURS,
    },
)
CONTROLLER = Sought(
    called="controller",
    steps={
        Step.START: "Start virt-preflight-controller there, or check that it listens at {address}.",
        Step.REACH: "See whether {address} can be reached from here.",
        Step.RESOLVE: "Name it by an address: --server ADDRESS.",
        **OURS,
    },
)
# Parts of gRPC's UNAVAILABLE texts, as seen with 1.81.
BY_PART = (
    ("Too many open files", "we have no open file left: raise the limit (ulimit -n)", Step.RAISE),
    ("Connection refused", "connection refused", Step.START),
    ("errors resolving", "name does not resolve", Step.RESOLVE),
    ("DNS resolution failed", "name does not resolve", Step.RESOLVE),
    ("No such file or directory", "no such socket", Step.START),
    ("Permission denied", "permission to the socket denied", Step.PERMIT),
    ("No route to host", "no route to the host", Step.REACH),
    ("Network is unreachable", "network is unreachable", Step.REACH),
    (
        "Failed parsing HTTP/2",
        "no {called} listens there: the port speaks something else",
        Step.START,
    ),
    ("before receiving SETTINGS", "who listens there does not answer", Step.REACH),
    ("Connection reset", "connection reset", Step.REACH),
    ("Socket closed", "connection lost", Step.REACH),
)


def unreached(details: str, sought: Sought, name: str, address: str) -> tuple[str, str] | None:
    """Why he was not, and the next step; None where the words are not known."""
    for part, why, step in BY_PART:
        if part in details:
            next_step = sought.steps[step].format(name=name, address=address)
            return why.format(called=sought.called), next_step
    return None
