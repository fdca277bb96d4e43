"""What the caller names as the emulator is not run for the asking."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks.emulators import not_run
from virt_preflight.agent.asks.putting import at_destination
from virt_preflight.agent.asks.rehearsal import impossible
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.dryrun import given
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.factstore import FactStore, Question
from virt_preflight.agent.families.machine import SeenEmulator
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy

GUEST = Path(__file__).parents[2] / "recordings/guests/db1.xml"
EVIL = SeenEmulator(
    path="/tmp/qemu-evil", present=True, executable=True, unsafe="others than root may write it"
)
GOOD = SeenEmulator(path="/usr/bin/qemu-system-x86_64", present=True, executable=True, unsafe="")


class Listening(FakeSource):
    """A host that notes what its libvirt is asked."""

    heard: list[str] = []  # noqa: RUF012 - emptied by each test

    def libvirt(self, question: str, *arguments: str) -> str:
        self.heard.append(question)
        return super().libvirt(question, *arguments)


def asked(emulator: SeenEmulator | Unknown) -> tuple[Question, Domain]:
    Listening.heard.clear()
    domain = read_domain(GUEST.read_bytes())
    store = FactStore(source=Listening(), catalogue=catalogue(), clock=lambda: 0.0)
    question = store.question(given(domain, Policy(), MigrationOptions(), None))
    question.given[SeenEmulator] = emulator
    return question, domain


@pytest.mark.parametrize("emulator", [EVIL, Unknown("machine: no right to look")])
@pytest.mark.parametrize("depth", [Depth.LIBVIRT, Depth.TRIAL, Depth.REHEARSAL])
def test_libvirt_hears_nothing_of_a_guest_whose_emulator_must_not_be_run(
    emulator: SeenEmulator | Unknown, depth: Depth
) -> None:
    question, domain = asked(emulator)
    hearings = at_destination(question, domain, depth)
    assert hearings is not None
    assert [bool(one.doubt) for one in hearings.heard] == [True]
    assert Listening.heard == []


def test_of_an_emulator_that_only_root_may_write_libvirt_is_asked() -> None:
    question, domain = asked(GOOD)
    assert not_run(question) == ""
    at_destination(question, domain, Depth.LIBVIRT)
    assert "native" in Listening.heard


def test_who_would_not_have_hooks_run_by_a_rehearsal_has_none_run_by_a_trial() -> None:
    question, domain = asked(GOOD)
    refused = impossible("libvirtd would run /etc/libvirt/hooks/qemu: --allow hooks")
    hearings = at_destination(question, domain, Depth.REHEARSAL, refused)
    assert hearings is not None
    assert hearings.reached(Depth.REHEARSAL) is Depth.LIBVIRT
    assert "it would run the host's hooks as well" in hearings.shallower_because()


def test_what_a_rehearsal_said_is_not_lost_by_that() -> None:
    question, domain = asked(EVIL)
    rehearsed = Hearing(ask="a rehearsal", depth=Depth.REHEARSAL)
    hearings = at_destination(question, domain, Depth.REHEARSAL, rehearsed)
    assert hearings is not None
    assert rehearsed in hearings.heard
