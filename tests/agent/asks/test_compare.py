from collections.abc import Mapping

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks.compare import compare_cpu
from virt_preflight.agent.catalogue import gather
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.factstore import FactStore, Question
from virt_preflight.agent.families.cpu import GuestCpu, HostCpu, KnownCpus
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.sources import (
    Impossible,
    LibvirtRefused,
    SourceError,
    Unreadable,
)
from virt_preflight.agent.xml import text_form

CPU = "<cpu mode='custom' match='exact' check='{check}'><model>EPYC-Milan</model></cpu>"
LACKS = "the CPU is incompatible with host CPU: Host CPU does not provide required features: {}"
INCOMPATIBLE, FROM_CPU = 91, 31


def guest(check: str = "full", cpu: str = CPU) -> Domain:
    kind = "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
    emulator = "<devices><emulator>/qemu</emulator></devices>"
    return read_domain(
        f"<domain type='kvm'><name>g</name>{kind}{cpu.format(check=check)}{emulator}</domain>"
    )


def heard(
    answer: str | SourceError, *, qemu: int | None = 7_002_000, threads: int = 1
) -> Hearing | None:
    domain = guest()
    cpu = text_form(domain.root.find("cpu")).decode()  # type: ignore[arg-type]
    asked = ("compare-cpu", "/qemu", "x86_64", "pc-q35-7.2", "kvm", cpu)
    return compare_cpu(question({asked: answer}, qemu=qemu, threads=threads), domain)


def question(
    answers: Mapping[tuple[str, ...], str | SourceError], *, qemu: int | None, threads: int
) -> Question:
    store = FactStore(source=FakeSource(answers=answers), catalogue=gather(()), clock=lambda: 0.0)
    offered: frozenset[str] = frozenset()
    host = HostCpu(model="", vendor="", offered=offered, physical=offered, qemu=qemu)
    of_guest = GuestCpu(
        mode="custom",
        check="full",
        model="EPYC-Milan",
        fallback="forbid",
        vendor="",
        virt_type="kvm",
        policy_by_feature={},
        threads=threads,
    )
    asked = store.question({GuestCpu: of_guest, HostCpu: host})
    # What has no provider here is not known, as when its probe ended in an error.
    asked.given.update(dict.fromkeys((KnownCpus, SeenCapabilities)))
    return asked


def test_a_cpu_that_fits_has_nothing_said_of_it() -> None:
    hearing = heard("")
    assert hearing is not None
    assert (hearing.said, hearing.doubt) == ((), "")


def test_missing_features_are_named() -> None:
    hearing = heard(LibvirtRefused(LACKS.format("clflushopt, clwb"), INCOMPATIBLE, FROM_CPU))
    assert hearing is not None
    (said,) = hearing.said
    assert said.check == "cpu.features-absent"
    assert said.problem.libvirt_error.endswith("clflushopt, clwb")
    assert said.problem.severity is None, "our own check has the weight"


def test_what_qemu_gives_all_the_same_is_not_missed() -> None:
    hearing = heard(LibvirtRefused(LACKS.format("topoext"), INCOMPATIBLE, FROM_CPU))
    assert hearing is not None
    assert hearing.said == ()


def test_beside_it_the_others_are() -> None:
    hearing = heard(LibvirtRefused(LACKS.format("clwb, topoext"), INCOMPATIBLE, FROM_CPU))
    assert hearing is not None
    (said,) = hearing.said
    assert said.problem.wanted == "clwb"


@pytest.mark.parametrize(
    ("qemu", "threads", "excused"),
    [(10_000_000, 4, True), (None, 4, True), (7_002_000, 1, True), (7_002_000, 4, False)],
)
def test_ht_is_qemus_own_since_10_0(qemu: int | None, threads: int, *, excused: bool) -> None:
    hearing = heard(
        LibvirtRefused(LACKS.format("ht"), INCOMPATIBLE, FROM_CPU), qemu=qemu, threads=threads
    )
    assert hearing is not None
    assert (hearing.said == ()) is excused


@pytest.mark.parametrize("check", ["none", "partial"])
def test_a_cpu_that_was_only_asked_for_is_not_compared(check: str) -> None:
    nobody = question({}, qemu=None, threads=1)
    assert compare_cpu(nobody, guest(check)) is None


def test_a_guest_without_a_cpu_is_not_compared() -> None:
    assert compare_cpu(question({}, qemu=None, threads=1), guest(cpu="")) is None


def test_an_architecture_without_rules_is_no_refusal() -> None:
    words = "comparing with the hypervisor CPU is not supported for arch aarch64"
    assert heard(LibvirtRefused(words, 84, 10)) is None


def test_no_answer_is_a_doubt() -> None:
    hearing = heard(Unreadable("gone"))
    assert hearing is not None
    assert hearing.doubt == "gone"


def test_another_hypervisor_cannot_be_asked() -> None:
    hearing = heard(Impossible("not supported by the connection driver"))
    assert hearing is not None
    assert hearing.impossible == "not supported by the connection driver"
