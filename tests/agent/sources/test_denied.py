"""What libvirt's binding says, as the narrow door hands it on; and libvirt's own test driver."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.departure import departure
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.dryrun import Asked, dry_run
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.sources import QUESTIONS as TOLD
from virt_preflight.agent.sources import Absent, Impossible, LibvirtRefused, Refused, Unreadable
from virt_preflight.agent.sources.patience import Patience

pytest.importorskip("libvirt", reason="no libvirt binding on this machine")

import libvirt

from virt_preflight.agent.sources.live.libvirtd import QUESTIONS, RIGHTS, Libvirtd, Line
from virt_preflight.agent.sources.live.machine import LiveSource

ARGUMENTS = {
    "domain-capabilities": ("", "", "", ""),
    "domain-xml": ("uuid",),
    "migratable-xml": ("uuid",),
    "stored-xml": ("uuid",),
    "domain-jobs": ("uuid",),
    "pool-volumes": ("pool",),
    "volume": ("pool", "volume"),
    "network-named": ("lan",),
    "nwfilter-named": ("clean",),
    "pool-named": ("pool",),
    "pool-at": ("/srv/pool",),
    "secret-known": ("uuid",),
    "secret-for": ("ceph", "client.admin"),
    "begin": ("uuid", "1", "{}"),
    "compare-cpu": ("", "", "", "", "<cpu/>"),
    "native": ("<domain/>",),
}
NO_RIGHT = (
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
)


class Said(libvirt.libvirtError):  # type: ignore[misc]
    """An error of libvirt's, as it comes."""

    def __init__(self, words: str, code: int) -> None:
        Exception.__init__(self, words)
        self.err = (code, 10, words, 2, None, None, None, 0, 0)


class Refusing:
    """A connection on which nothing is answered but with that error."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __getattr__(self, verb: str) -> Callable[..., NoReturn]:
        def refused(*_: object) -> NoReturn:
            raise Said(f"no {verb}", self.code)

        return refused

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's own name
        return True


def asked_of(connection: Any, question: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Line, "open", lambda _: connection)
    monkeypatch.setattr(Line, "lost", lambda _: False)
    libvirtd = Libvirtd("qemu:///system", Patience(time.monotonic))
    return libvirtd.ask(question, ARGUMENTS.get(question, ()))


def test_every_question_has_its_answer_and_the_right_that_it_needs() -> None:
    assert TOLD.keys() == QUESTIONS.keys() == RIGHTS.keys()


@pytest.mark.parametrize("code", NO_RIGHT)
@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_a_right_that_is_missing_leaves_the_question_open_and_is_named(
    question: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreadable, match=r"^the agent needs the right org\.libvirt\.") as caught:
        asked_of(Refusing(code), question, monkeypatch)
    assert RIGHTS[question] in str(caught.value)


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_a_connection_that_may_only_read_is_said_to_be_one(
    question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreadable, match="the agent needs a read-write connection to libvirt: no"):
        asked_of(Refusing(libvirt.VIR_ERR_OPERATION_DENIED), question, monkeypatch)


@pytest.mark.parametrize("question", ["begin", "compare-cpu", "native"])
def test_of_a_guest_any_other_error_is_a_no(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LibvirtRefused):
        asked_of(Refusing(libvirt.VIR_ERR_CONFIG_UNSUPPORTED), question, monkeypatch)
    with pytest.raises(Impossible):
        asked_of(Refusing(libvirt.VIR_ERR_NO_SUPPORT), question, monkeypatch)


def test_of_the_host_what_is_absent_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Absent):
        asked_of(Refusing(libvirt.VIR_ERR_NO_STORAGE_POOL), "pool-volumes", monkeypatch)
    with pytest.raises(Refused):
        asked_of(Refusing(libvirt.VIR_ERR_OPERATION_INVALID), "pool-volumes", monkeypatch)


# ------------------------------------------------------------------------ another driver, for real


def another(question: str, *arguments: str) -> str:
    return Libvirtd("test:///default", Patience(time.monotonic)).ask(question, arguments)


def test_another_driver_lists_its_guests() -> None:
    (guest,) = json.loads(another("domains"))
    assert (guest["name"], guest["state"], guest["persistent"]) == ("test", "running", True)


def test_another_driver_is_asked_for_what_its_lists_lack() -> None:
    assert another("network-named", "default") == ""
    assert another("pool-named", "default-pool") == ""
    for question in ("network-named", "pool-named"):
        with pytest.raises(Absent):
            another(question, "nowhere")


@pytest.mark.parametrize("question", ["compare-cpu", "native"])
def test_another_driver_cannot_be_asked_what_is_qemus(question: str) -> None:
    with pytest.raises(Impossible, match="not supported by the connection driver"):
        another(question, *ARGUMENTS[question])


def test_another_driver_has_no_begin_phase() -> None:
    (guest,) = json.loads(another("domains"))
    with pytest.raises(Impossible, match="not supported by the connection driver"):
        another("begin", guest["uuid"], "1", "{}")


def store() -> FactStore:
    source = LiveSource("test:///default")
    return FactStore(source=source, catalogue=catalogue(), clock=time.monotonic, stage=source.stage)


DEEP = Asked(depth=Depth.LIBVIRT, max_age_s=0)
OPTIONS = MigrationOptions(live=True, p2p=True)


def test_a_host_of_another_driver_is_answered_less_deeply_and_says_why() -> None:
    guest = read_domain(
        "<domain type='kvm'><name>g</name><memory>65536</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        "<cpu mode='custom' check='full'><model>EPYC</model></cpu></domain>"
    )
    found = dry_run(store(), guest, host="h2", policy=Policy(), options=OPTIONS, asked=DEEP)
    assert found.depth is Depth.FACTS
    for ask in ("libvirt's CPU comparison", "libvirt's QEMU command line"):
        assert f"{ask}: this function is not supported by the" in found.shallower_because
    assert not [one for one in found.findings if one.libvirt_error]


def test_a_guest_of_another_driver_may_leave_as_far_as_facts_tell() -> None:
    found = departure(store(), "test", host="h1", policy=Policy(), options=OPTIONS, asked=DEEP)
    assert found.report.depth is Depth.FACTS
    assert found.report.shallower_because.startswith("libvirt's Begin phase: this function is not")
    assert b"<name>test</name>" in found.domain_xml
