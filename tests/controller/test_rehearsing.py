import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tests.controller.samples import DOMAIN_XML, UUID, report
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import (
    Attended,
    Finding,
    Heard,
    Late,
    Phase,
    Report,
    Severity,
    Side,
    Silent,
)
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.fleet import FleetHost, Uris
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import Question, Questions
from virt_preflight.controller.rehearsing import TO_PUT_BACK_S, Play, Stage, rehearse_all
from virt_preflight.controller.wire import Call
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

HOME, H2, H3 = (FleetHost(name=name, address=f"{name}:1") for name in ("h1", "h2", "h3"))
PACE = Pace(each_s=5, all_s=60, in_flight=16)
QUESTION = Question(
    guest="db1",
    options=MigrationOptions(live=True, p2p=True),
    questions=Questions(depth=Depth.REHEARSAL, allow=("hooks",)),
)
PLAY = Play(
    guest=guest_pb2.Guest(domain_xml=DOMAIN_XML).SerializeToString(),
    uuid=UUID,
    home=HOME,
    question=QUESTION,
    uris=Uris(),
)
PLAYED = agent_pb2.Rehearsal(settled=[report_pb2.PHASE_PREPARE]).SerializeToString()


class Company(Agents):
    """Hosts that attend as they are told, and a source that keeps what it was asked."""

    def __init__(
        self,
        attended: dict[str, Attended | Silent] | None = None,
        played: Heard[bytes] | Silent | None = None,
        takes_s: float = 0,
        attends_after_s: float = 0,
        left: tuple[str, ...] = (),
    ) -> None:
        super().__init__(at_most=1)
        self.attending = attended or {}
        self.played = played or Heard(host="h1", said=PLAYED)
        self.takes_s = takes_s
        self.attends_after_s = attends_after_s
        self.left = left
        self.diary: list[str] = []
        self.asked: list[agent_pb2.RehearseDryRunRequest] = []

    @asynccontextmanager
    async def attended(
        self,
        host: FleetHost,
        call: Call[Attended],
        within_s: float,
        tell: Callable[[Sequence[str]], None] = lambda _left: None,
    ) -> AsyncIterator[Attended | Silent]:
        asked = agent_pb2.AttendRehearsalRequest.FromString(call.request)
        assert asked.guest.domain_xml == DOMAIN_XML
        assert list(asked.questions.allow) == ["hooks"]
        self.diary.append(f"{host.name} attends")
        await asyncio.sleep(self.attends_after_s)
        yield self.attending.get(host.name, Attended())
        self.diary.append(f"{host.name} tidies up")
        tell(self.left)

    async def ask(self, host: FleetHost, call: Call[Any], within_s: float) -> Any:
        request = agent_pb2.RehearseDryRunRequest.FromString(call.request)
        self.asked.append(request)
        self.diary.append(f"{host.name} plays for {request.destination_uri}")
        await asyncio.sleep(self.takes_s)
        return self.played


def came(
    company: Company,
    *hosts: FleetHost,
    source: Report | None = None,
    play: Play = PLAY,
    pace: Pace = PACE,
) -> dict[str, agent_pb2.Rehearsal | Silent]:
    found = asyncio.run(
        rehearse_all(
            play, source or report(), hosts or (H2,), Stage(agents=company), pace, lambda: None
        )
    )
    return {
        name: agent_pb2.Rehearsal.FromString(one) if isinstance(one, bytes) else one
        for name, one in found.items()
    }


def rehearsal(company: Company, **about: Any) -> agent_pb2.Rehearsal:
    found = came(company, **about)["h2"]
    assert isinstance(found, agent_pb2.Rehearsal)
    return found


def test_one_destination_after_the_other_attends_and_tidies_up_before_the_next() -> None:
    company = Company()
    came(company, H2, H3)
    assert company.diary == [
        "h2 attends",
        "h1 plays for qemu+tls://h2/system",
        "h2 tidies up",
        "h3 attends",
        "h1 plays for qemu+tls://h3/system",
        "h3 tidies up",
    ]


def test_what_the_source_heard_goes_on_unread() -> None:
    assert list(rehearsal(Company()).settled) == [report_pb2.PHASE_PREPARE]


def test_what_a_destination_could_not_put_back_is_told_to_it_when_it_is_asked() -> None:
    company = Company(left=("/var/lib/x.fd: access denied",))
    assert list(rehearsal(company).left) == ["/var/lib/x.fd: access denied"]
    company = Company(left=("/x: is busy",), played=Silent(host="h1", why="gone"))
    told = rehearsal(company)
    assert (told.doubt, list(told.left)) == ("h1: gone", ["/x: is busy"])


def test_the_source_is_told_whose_owner_is_to_be_kept() -> None:
    company = Company({"h2": Attended(keep_owner_of=("/srv/a.img",))})
    came(company)
    (asked,) = company.asked
    assert (asked.domain, list(asked.keep_owner_of)) == (UUID, ["/srv/a.img"])


def test_a_uri_that_the_user_gave_is_the_one_that_is_rehearsed() -> None:
    company = Company()
    options = replace(QUESTION.options, desturi="qemu+tcp://10.0.0.2/system")
    came(company, play=replace(PLAY, question=replace(QUESTION, options=options)))
    assert company.asked[0].destination_uri == "qemu+tcp://10.0.0.2/system"


def test_a_destination_that_will_not_have_it_is_not_rehearsed() -> None:
    company = Company({"h2": Attended(refused="libvirtd would run a hook")})
    assert rehearsal(company).impossible == "libvirtd would run a hook"
    assert not company.asked


def test_a_destination_that_does_not_attend_is_not_rehearsed() -> None:
    company = Company({"h2": Silent(host="h2", why="connection refused")})
    assert rehearsal(company).impossible == "h2 does not attend: connection refused"
    assert not company.asked


def test_a_source_that_does_not_answer_leaves_a_doubt() -> None:
    company = Company(played=Silent(host="h1", why="connection lost"))
    assert rehearsal(company).doubt == "h1: connection lost"


def test_a_guest_that_libvirt_does_not_let_go_is_rehearsed_nowhere() -> None:
    snapshots = Finding(
        check="state.snapshots",
        title="",
        severity=Severity.BLOCKER,
        side=Side.SOURCE,
        phase=Phase.BEGIN,
        depth=Depth.LIBVIRT,
        subject="",
        wanted="",
        found="",
        remedy="",
        commands=(),
        lasting=False,
        libvirt_error="cannot migrate domain with 1 snapshots",
        waived=False,
    )
    company = Company()
    refused = rehearsal(company, source=report(snapshots))
    assert refused.impossible.endswith("cannot migrate domain with 1 snapshots")
    assert not company.diary
    # What facts alone say is libvirt's to confirm.
    came(company, source=report(replace(snapshots, libvirt_error="")))
    assert company.diary


def test_whom_no_time_is_left_for_is_not_begun_with() -> None:
    company = Company(takes_s=0.3)
    found = came(company, H2, H3, pace=replace(PACE, each_s=2.2, all_s=2.2))
    second = found["h3"]
    assert isinstance(second, agent_pb2.Rehearsal)
    assert "no time was left" in second.impossible
    assert "h3 attends" not in company.diary


def test_a_destination_that_lets_its_time_pass_is_late() -> None:
    company = Company(attends_after_s=30)
    assert isinstance(came(company, pace=replace(PACE, each_s=2.1))["h2"], Late)
    assert not company.asked


def test_a_source_that_lets_its_time_pass_leaves_a_doubt_and_its_destination_time_to_put_back() -> (
    None
):
    """The destination is not the one that is silent: it attended, and goes on to be asked."""
    company = Company(takes_s=30)
    doubt = rehearsal(company, pace=replace(PACE, each_s=2.1)).doubt
    assert re.fullmatch(r"h1: no answer within [0-9.]+ s", doubt)
    assert float(doubt.split()[-2]) <= 2.1 - TO_PUT_BACK_S
    assert company.diary[-1] == "h2 tidies up"
