from __future__ import annotations

from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.nics import (
    GuestNewCards,
    NewCard,
    guest_new_cards,
    model_unknown,
)
from virt_preflight.agent.families.versions import HostVersions

OLD, NEW = HostVersions(libvirt=0, qemu=7_002_000), HostVersions(libvirt=0, qemu=8_000_000)


def cards(
    emulator: str = "/usr/bin/qemu-system-x86_64", model: str = "igb"
) -> GuestNewCards | None:
    return guest_new_cards(
        read_domain(
            f"<domain><name>g</name><devices><emulator>{emulator}</emulator><interface>"
            f"<mac address='52:54:00:00:00:01'/><model type='{model}'/></interface></devices>"
            "</domain>"
        )
    )


def some(emulator: str = "/usr/bin/qemu-system-x86_64") -> GuestNewCards:
    found = cards(emulator)
    assert found is not None
    return found


def test_only_cards_that_are_not_old_are_asked_about() -> None:
    assert some().cards == (NewCard(subject="interface 52:54:00:00:00:01", model="igb"),)
    assert cards(model="virtio") is None


def test_an_older_qemu_has_no_newer_card() -> None:
    (problem,) = model_unknown(some(), OLD)
    assert isinstance(problem, Problem)
    assert problem.wanted == "igb, of QEMU 8.0.0 or newer"
    assert problem.found == "QEMU 7.2.0"


def test_a_qemu_that_came_with_the_card_has_it() -> None:
    assert not list(model_unknown(some(), NEW))


def test_of_a_qemu_of_somebodys_own_the_release_is_not_known() -> None:
    (left,) = model_unknown(some("/opt/qemu/bin/qemu-system-x86_64"), OLD)
    assert isinstance(left, CouldNotTell)
