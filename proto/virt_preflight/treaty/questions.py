"""What is asked, method by method: the role that it takes, and what of it an audit tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from virt_preflight.treaty.roles import Role
from virt_preflight.v1 import guest_pb2, report_pb2

AGENT = "/virt_preflight.v1.AgentService/"
FLEET = "/virt_preflight.v1.FleetService/"
CONTROLLER = "/virt_preflight.v1.ControllerService/"
# For whoever is there.
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/"

# Depths that have no effect on any host; what is not named becomes one of them.
WITHOUT_EFFECT = (guest_pb2.DEPTH_UNSPECIFIED, guest_pb2.DEPTH_FACTS, guest_pb2.DEPTH_LIBVIRT)
NAMED_AT_MOST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one request asks for."""

    # None: whoever is there may, and who may do it in whose name its service sees to itself.
    role: Role | None
    # Whether it takes one of the places that there are: what lasts for ever has a limit of its own.
    counts: bool = True
    depth: str = ""
    guests: tuple[str, ...] = ()


Reader = Callable[[Any], Asked]


def asked(method: str, request: Any) -> Asked:
    """A method that nobody has thought of takes an admin."""
    reader = READER_BY_METHOD.get(method)
    return Asked(role=Role.ADMIN) if reader is None else reader(request)


def outcome(response: Any) -> str:
    """The verdicts of an answer, or of one message of it; empty where it has none."""
    match type(response).__name__:
        case "PrepareDryRunResponse":
            return _verdicts(report.verdict for report in response.reports)
        case "BeginDryRunResponse":
            return _verdicts((response.report.verdict,))
        case "RehearseDryRunResponse":
            told = response.rehearsal
            return f"{told.doubt or told.impossible or 'heard'}"
        case "AttendRehearsalResponse":
            return f"refused: {response.refused}" if response.refused else ""
        case "DryRunResponse" if response.HasField("ranking"):
            return _verdicts((response.ranking.verdict,))
        case "DryRunResponse" if response.HasField("failure"):
            return str(response.failure.reason)
        case "RankResponse":
            return f"{response.takers} of {response.hosts} hosts"
        case _:
            return ""


def guests_in(response: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """The guests of a request, by the names that an answer gives them: a file has another."""
    match type(response).__name__:
        case "DryRunResponse":
            # Of a file it is known when a host has read it.
            name, place = response.ranking.name.name or response.found.name.name, response.guest
            if name and place < min(NAMED_AT_MOST, len(known)):
                return (*known[:place], name, *known[place + 1 :])
        case "RankResponse" if response.name.name:
            return (response.name.name,)
    return known


def listed(names: Iterable[str]) -> tuple[str, ...]:
    """As many as a line is to have."""
    all_names = tuple(names)
    if len(all_names) <= NAMED_AT_MOST:
        return all_names
    return (*all_names[:NAMED_AT_MOST], f"and {len(all_names) - NAMED_AT_MOST} more")


def _plain(role: Role) -> Reader:
    return lambda _: Asked(role=role)


def _listing(request: Any) -> Asked:
    return Asked(role=Role.SCHEDULER, guests=listed([request.domain] if request.domain else []))


def _preparing(request: Any) -> Asked:
    guests = (f"{len(request.guests)} as XML",)
    return _at_depth(request.questions.depth, guests)


def _beginning(request: Any) -> Asked:
    return _at_depth(request.questions.depth, listed([request.domain]))


def _rehearsing(request: Any) -> Asked:
    return Asked(role=Role.ADMIN, depth="rehearsal", guests=listed([request.domain]))


def _attending(_: Any) -> Asked:
    return Asked(role=Role.ADMIN, depth="rehearsal")


def _dry_running(request: Any) -> Asked:
    return _at_depth(request.move.questions.depth, listed(map(_chosen, request.guests)))


def _ranking(request: Any) -> Asked:
    return _at_depth(request.move.questions.depth, listed([_chosen(request.guest)]))


def _at_depth(depth: int, guests: tuple[str, ...]) -> Asked:
    role = Role.SCHEDULER if depth in WITHOUT_EFFECT else Role.ADMIN
    return Asked(role=role, depth=_depth_name(depth), guests=guests)


def _depth_name(depth: int) -> str:
    if depth == guest_pb2.DEPTH_UNSPECIFIED:
        return "default"
    known = guest_pb2.Depth.DESCRIPTOR.values_by_number.get(depth)
    return known.name.removeprefix("DEPTH_").lower() if known else str(depth)


def _chosen(choice: Any) -> str:
    return choice.name or choice.file.called or "a file"


def _verdicts(verdicts: Iterable[int]) -> str:
    return ",".join(listed(_verdict(one) for one in verdicts))


def _verdict(number: int) -> str:
    known = report_pb2.Verdict.DESCRIPTOR.values_by_number.get(number)
    return known.name.removeprefix("VERDICT_") if known else str(number)


READER_BY_METHOD: dict[str, Reader] = {
    f"{AGENT}DescribeHost": _plain(Role.VIEWER),
    f"{AGENT}ListChecks": _plain(Role.VIEWER),
    f"{AGENT}ListDomains": _listing,
    f"{AGENT}BeginDryRun": _beginning,
    f"{AGENT}PrepareDryRun": _preparing,
    f"{AGENT}RehearseDryRun": _rehearsing,
    f"{AGENT}AttendRehearsal": _attending,
    f"{CONTROLLER}ListHosts": _plain(Role.VIEWER),
    f"{CONTROLLER}WatchHosts": _plain(Role.VIEWER),
    f"{CONTROLLER}DescribeChecks": _plain(Role.VIEWER),
    f"{CONTROLLER}Rank": _ranking,
    f"{CONTROLLER}DryRun": _dry_running,
    f"{FLEET}Announce": lambda _: Asked(role=None, counts=False),
    f"{REFLECTION}ServerReflectionInfo": _plain(Role.VIEWER),
}
