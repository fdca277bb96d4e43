"""What is made of libvirt's answers, without a libvirt: connections that say what they are told."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import pytest

pytest.importorskip("libvirt", reason="no libvirt binding on this machine")

import libvirt

from tests.agent.sources.test_rehearsing import Said
from virt_preflight.agent.sources import LibvirtRefused, Refused, Unreached
from virt_preflight.agent.sources.live import libvirtd, stage

DENIED = libvirt.VIR_ERR_ACCESS_DENIED


@dataclass
class Domain:
    name_: str
    trouble: Exception | None = None

    def isPersistent(self) -> int:  # noqa: N802 - libvirt's own name
        if self.trouble:
            raise self.trouble
        return 1

    def ID(self) -> int:  # noqa: N802
        return 1

    def UUIDString(self) -> str:  # noqa: N802
        return f"uuid-of-{self.name_}"

    def name(self) -> str:
        return self.name_


@dataclass
class Connection:
    domains: list[Domain]

    def listAllDomains(self, wanted: int) -> list[Domain]:  # noqa: N802
        return self.domains if wanted in (0, libvirtd.LISTED["running"]) else []

    def isAlive(self) -> bool:  # noqa: N802
        return True


def test_a_guest_that_went_away_meanwhile_is_left_out_of_the_list() -> None:
    gone = Domain("db1", Said("no domain", libvirt.VIR_ERR_NO_DOMAIN))
    told = libvirtd.QUESTIONS["domains"](Connection([gone, Domain("db2")]))
    assert "db1" not in told
    assert '"name": "db2"' in told


def test_a_guest_that_may_not_be_read_is_not_said_to_be_absent() -> None:
    shut = Domain("db1", Said("access denied: 'QEMU' denied access", DENIED))
    with pytest.raises(Said, match="access denied"):
        libvirtd.QUESTIONS["domains"](Connection([shut]))


@pytest.mark.parametrize(
    ("said", "question", "right"),
    [
        ("access denied: 'QEMU' denied access", "native", "connect.write"),
        ("access denied: 'storage' denied access", "native", "storage-vol.read"),
        ("access denied: 'secret' denied access", "native", "secret.read-secure"),
        ("access denied", "volume", "storage-vol.getattr"),
    ],
)
def test_the_right_that_is_missing_is_that_of_the_driver_that_refused(
    said: str, question: str, right: str
) -> None:
    told = libvirtd.right_lacking(Said(said, DENIED), question)
    assert f"org.libvirt.api.{right}" in told
    assert said in told
    assert ("connect.write" in told) is (right == "connect.write")


def test_who_was_let_in_and_may_ask_nothing_is_told_the_right_that_he_lacks() -> None:
    denied = libvirtd.unreached(Said("access denied: 'QEMU' denied access", DENIED))
    assert "the right org.libvirt.api.connect.getattr" in str(denied)
    shut_out = libvirtd.unreached(Said("authentication failed", libvirt.VIR_ERR_AUTH_FAILED))
    assert "the right org.libvirt.unix.manage" in str(shut_out)


def test_a_trial_without_rights_names_them_and_is_no_word_on_the_guest() -> None:
    answer = stage._answer(Connection([]), Said("access denied: 'QEMU' denied access", DENIED))
    assert not isinstance(answer, LibvirtRefused)
    assert "the agent needs the rights org.libvirt.api.domain.start" in str(answer)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ECONNREFUSED])
def test_a_libvirtd_that_is_not_there_is_sure_and_says_no_to_nothing(number: int) -> None:
    error = Said("Failed to connect socket", libvirt.VIR_ERR_SYSTEM_ERROR)
    error.err = (*error.err[:7], number, 0)
    told = libvirtd.unreached(error)
    assert isinstance(told, Unreached)
    assert not isinstance(told, Refused)
