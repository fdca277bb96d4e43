"""What an agent counts. What it counts of real questions is in tests/service/test_metrics.py."""

from __future__ import annotations

import threading
import time

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.metrics import ELSEWHERE, KINDS, Metrics, kind_of
from virt_preflight.agent.sources import Unreadable
from virt_preflight.agent.sources.observer import Failed
from virt_preflight.agent.sources.patience import HANGING_AT_MOST, Patience


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"virt_preflight_agent_{name}", labels)


def given_up(metrics: Metrics, whom: str, why: str) -> float | None:
    return value(metrics, "given_up_total", whom=whom, why=why)


@pytest.mark.parametrize(
    ("whom", "kind"),
    [
        ("libvirtd", "libvirtd"),
        ("libvirtd about guest 4dea22b3-1d52-d8f3-2516-782e98ab3fa0", "libvirtd-about-guest"),
        ("/srv/images", "storage"),
        ("the deputy", "deputy"),
        ("the janitor about /var/lib/libvirt/images/a.img", "janitor"),
        ("the user database", "users"),
        ("the trial of a stand-in", "trial"),
        ("the rehearsal of 4dea22b3-1d52-d8f3-2516-782e98ab3fa0", "rehearsal"),
        ("ceph1 port 6789", "network"),
    ],
)
def test_a_name_of_a_guest_or_a_path_never_becomes_a_label(whom: str, kind: str) -> None:
    assert kind_of(whom) == kind
    assert kind in {*(kind for _, kind in KINDS), ELSEWHERE}


def test_a_deadline_that_is_hit_is_counted_and_what_hangs_is_shown_until_it_comes_back() -> None:
    metrics, go = Metrics("1"), threading.Event()
    patience = Patience(time.monotonic, metrics)
    assert given_up(metrics, "storage", "no-answer") == 0
    for _ in range(3):
        with pytest.raises(Unreadable):
            patience.ask("/srv", 0.05, lambda: go.wait(30))
    assert given_up(metrics, "storage", "no-answer") == 1
    assert given_up(metrics, "storage", "hangs") == 2
    assert value(metrics, "hanging", whom="storage") == 1
    go.set()
    ends = time.monotonic() + 30
    while value(metrics, "hanging", whom="storage") and time.monotonic() < ends:
        time.sleep(0.01)
    assert value(metrics, "hanging", whom="storage") == 0


def test_who_has_no_time_left_and_who_finds_no_room_are_counted_apart() -> None:
    metrics, go = Metrics("1"), threading.Event()
    patience = Patience(time.monotonic, metrics)
    with patience.within(0.0), pytest.raises(Unreadable):
        patience.ask("libvirtd", 1.0, go.wait)
    assert given_up(metrics, "libvirtd", "no-time") == 1
    for number in range(HANGING_AT_MOST):
        with pytest.raises(Unreadable):
            patience.ask(f"/srv/{number}", 0.001, lambda: go.wait(30))
    with pytest.raises(Unreadable):
        patience.ask("/srv/more", 1.0, go.wait)
    assert given_up(metrics, "storage", "too-many") == 1
    go.set()


def test_an_answer_in_time_is_nothing_to_count() -> None:
    metrics = Metrics("1")
    patience = Patience(time.monotonic, metrics)
    assert patience.ask("libvirtd", 10.0, lambda: 7) == 7
    assert given_up(metrics, "libvirtd", "no-answer") == 0


def test_the_time_of_a_call_to_libvirt_is_kept_by_its_name() -> None:
    metrics = Metrics("1")
    metrics.libvirt_answered("domain-xml", 0.2)
    assert value(metrics, "libvirt_call_seconds_sum", call="domain-xml") == 0.2
    assert value(metrics, "libvirt_call_seconds_bucket", call="domain-xml", le="0.1") == 0
    assert value(metrics, "libvirt_call_seconds_bucket", call="domain-xml", le="0.25") == 1


def test_the_age_of_facts_grows_while_nobody_asks_and_asking_for_it_learns_nothing() -> None:
    now, metrics = [100.0], Metrics("1")
    store = FactStore(source=FakeSource(), catalogue=catalogue(), clock=lambda: now[0])
    metrics.of_facts(store.ages_s)
    assert value(metrics, "facts_age_seconds", family="memory") is None
    question = store.question({})
    for provider in store.catalogue.provider_by_type.values():
        if provider.family == "memory" and provider.kind.value == "have":
            question.known(provider.gives)
    now[0] = 142.0
    assert value(metrics, "facts_age_seconds", family="memory") == 42
    assert value(metrics, "facts_age_seconds", family="memory") == 42


def test_every_depth_and_verdict_is_there_from_the_beginning() -> None:
    """So that the first of them is a rise, and not a series that was not there."""
    metrics = Metrics("1")
    for depth in Depth:
        assert value(metrics, "verdicts_total", depth=depth.spoken, verdict="BLOCKED") == 0


def test_the_deputys_time_and_its_failures_are_kept_by_what_it_was_asked() -> None:
    metrics = Metrics("1")
    assert value(metrics, "deputy_failures_total", why="unreached") == 0
    metrics.deputy_answered("stat", 0.002, None)
    metrics.deputy_answered("may", 0.002, Failed.UNREACHED)
    assert value(metrics, "deputy_call_seconds_count", call="stat") == 1
    assert value(metrics, "deputy_call_seconds_count", call="may") == 1
    assert value(metrics, "deputy_failures_total", why="unreached") == 1
