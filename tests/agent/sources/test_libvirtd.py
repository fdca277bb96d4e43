"""Questions to a real libvirt, to its test driver in this process: no daemon is needed."""

from __future__ import annotations

import pytest

from virt_preflight.agent.sources import SourceError
from virt_preflight.agent.sources.observer import Unobserved
from virt_preflight.treaty import request_id

libvirt = pytest.importorskip("libvirt", reason="no libvirt binding on this machine")

from virt_preflight.agent.sources.live.machine import LiveSource  # noqa: E402


class Told(Unobserved):
    """A SourceObserver that writes down what it is told."""

    def __init__(self) -> None:
        self.answered: list[tuple[str, float, str]] = []

    def libvirt_answered(self, question: str, seconds: float) -> None:
        self.answered.append((question, seconds, request_id.current()))


def test_each_question_to_libvirt_is_told_by_its_name_with_its_time() -> None:
    told = Told()
    source = LiveSource("test:///default", told)
    source.libvirt("hostname")
    with pytest.raises(SourceError):
        source.libvirt("domain-xml", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0")
    assert [question for question, _, _ in told.answered] == ["hostname", "domain-xml"]
    assert all(0 <= seconds < 10 for _, seconds, _ in told.answered)


def test_whoever_asks_libvirt_in_a_thread_does_so_about_the_askers_question() -> None:
    told = Told()
    source = LiveSource("test:///default", told)
    with request_id.asking("nightly-7"):
        source.libvirt("hostname")
    source.libvirt("hostname")
    assert [about for _, _, about in told.answered] == ["nightly-7", ""]
