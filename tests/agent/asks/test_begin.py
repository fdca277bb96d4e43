import json

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks.begin import DECIDED, DECIDED_BY_QEMU, Begun, begin
from virt_preflight.agent.asks.flags import Migrate
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Impossible, LibvirtRefused, SourceError, Unreadable

GUEST = "a7dfc89e-6117-5a0e-b2e9-a124db5ba228"
LIVE = MigrationOptions(live=True, p2p=True, unsafe=True)
FLAGS = Migrate.LIVE | Migrate.PEER2PEER | Migrate.UNSAFE
NEW = '{"libvirt": 9000000, "qemu": 7002022}'


def begun(answer: str | SourceError, version: str | SourceError = NEW) -> Begun:
    answers = {("begin", GUEST, str(int(FLAGS)), "{}"): answer, ("version",): version}
    return begin(FakeSource(answers=answers), GUEST, LIVE)


def test_a_guest_that_may_go_has_its_cookie_and_closes_what_facts_left_open() -> None:
    found = begun("<qemu-migration/>")
    assert found.cookie == b"<qemu-migration/>"
    assert found.hearing.said == ()
    assert found.hearing.decides == DECIDED | DECIDED_BY_QEMU


def test_a_refusal_is_said_under_the_id_of_its_check() -> None:
    words = "Requested operation is not valid: cannot migrate domain with 1 snapshots"
    found = begun(LibvirtRefused(words, 55, 10))
    (said,) = found.hearing.said
    assert (said.check, said.problem.libvirt_error) == ("state.snapshots", words)
    assert (said.problem.side, said.problem.phase) == (Side.SOURCE, Phase.BEGIN)
    assert said.problem.severity is Severity.BLOCKER
    assert found.cookie == b""
    assert not found.hearing.decides


def test_words_that_nobody_knows_are_not_lost() -> None:
    (said,) = begun(LibvirtRefused("internal error: who knows", 1, 10)).hearing.said
    assert (said.check, said.problem.found) == ("libvirt.refused", "internal error: who knows")


def test_no_answer_is_a_doubt_and_decides_nothing() -> None:
    hearing = begun(Unreadable("no answer within 2 s")).hearing
    assert (hearing.doubt, hearing.decides) == ("no answer within 2 s", frozenset())


def test_a_libvirt_without_entry_points_is_asked_no_more() -> None:
    hearing = begun(Impossible("no such symbol")).hearing
    assert (hearing.impossible, hearing.depth) == ("no such symbol", Depth.LIBVIRT)


@pytest.mark.parametrize(
    "version", ['{"libvirt": 7000000, "qemu": 5002000}', Unreadable("gone"), "[]", "null"]
)
def test_an_older_libvirt_has_not_asked_qemu(version: str | SourceError) -> None:
    assert begun("<qemu-migration/>", version).hearing.decides == DECIDED


def test_the_guests_job_is_never_kept() -> None:
    asked = []

    class Listening(FakeSource):
        __slots__ = ()

        def libvirt(self, question: str, *arguments: str) -> str:
            asked.append((question, arguments))
            return NEW

    begin(Listening(), GUEST, MigrationOptions(live=True, migrate_disks=("vda",)))
    _, (uuid, flags, parameters) = asked[0]
    assert not int(flags) & Migrate.CHANGE_PROTECTION
    assert (uuid, json.loads(parameters)) == (GUEST, {"migrate_disks": ["vda"]})


# Blockers of the source's Begin that libvirt's Begin does not decide, each with who does.
NOT_DECIDED = {
    "options.direct": "its client",
    "options.disks-not-copied": "only newer ones, the option alone is looked at",
    "options.same-host": "the destination, by the cookie",
    "options.tunnelled-not-p2p": "its client",
    "options.tunnelled-parallel": "its client",
    "options.tunnelled-with-storage": "libvirt 9.0 says so and goes on",
    "options.tunnelled-with-uri": "its client",
    "options.two-copies": "its client",
    "state.job": "it waits for one job and passes beside another",
}


def test_each_blocker_of_the_source_is_known_to_be_libvirts_to_decide_or_not() -> None:
    of_begin = {
        check.id
        for check in catalogue().checks
        if (check.side, check.phase) == (Side.SOURCE, Phase.BEGIN)
        and check.severity is Severity.BLOCKER
    }
    assert not (DECIDED | DECIDED_BY_QEMU) - of_begin, "no such check"
    assert not (DECIDED | DECIDED_BY_QEMU) & NOT_DECIDED.keys()
    assert not of_begin - DECIDED - DECIDED_BY_QEMU - NOT_DECIDED.keys(), "decide who decides"
