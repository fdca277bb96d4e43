"""What every store promises, asked of each of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virt_preflight.controller.store import Change, Forget, KeptHost, Remember, Seen, Store
from virt_preflight.controller.store.memory import MemoryStore
from virt_preflight.controller.store.sqlite import SqliteStore

H1 = KeptHost(
    name="h1",
    address="10.0.0.1:50551",
    labels=(("rack", "r1"), ("zone", "süd, 'oben'")),
    agent_version="0.1.0",
    seen_at=1_790_000_000,
)
H2 = replace(H1, name="h2", address="[fd00::2]:50551", labels=())
STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda place: SqliteStore.open(place / "controller.db"),
}


@contextmanager
def opened(kind: str, place: Path) -> Iterator[Store]:
    store = STORES[kind](place)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, tmp_path) as made:
        yield made


def test_a_new_store_knows_nobody(store: Store) -> None:
    assert store.hosts() == ()


def test_a_host_is_kept_to_the_letter(store: Store) -> None:
    store.keep([Remember(host=H1)])
    assert store.hosts() == (H1,)


def test_hosts_come_in_the_order_of_their_names(store: Store) -> None:
    store.keep([Remember(host=H2), Remember(host=H1)])
    assert [host.name for host in store.hosts()] == ["h1", "h2"]


def test_a_host_that_is_remembered_again_is_as_it_is_now(store: Store) -> None:
    moved = replace(H1, address="10.0.0.9:50551", labels=(("rack", "r9"),), seen_at=H1.seen_at + 9)
    store.keep([Remember(host=H1)])
    store.keep([Remember(host=moved)])
    assert store.hosts() == (moved,)


def test_a_host_that_is_seen_is_the_same_at_a_later_time(store: Store) -> None:
    store.keep([Remember(host=H1), Remember(host=H2)])
    store.keep([Seen(name="h1", at=H1.seen_at + 30)])
    assert store.hosts() == (replace(H1, seen_at=H1.seen_at + 30), H2)


def test_that_a_stranger_was_seen_makes_no_host_of_him(store: Store) -> None:
    store.keep([Seen(name="h9", at=1)])
    assert store.hosts() == ()


def test_a_host_that_is_forgotten_is_gone_and_may_come_back(store: Store) -> None:
    store.keep([Remember(host=H1), Remember(host=H2)])
    store.keep([Forget(name="h1"), Forget(name="h9")])
    assert store.hosts() == (H2,)
    store.keep([Remember(host=H1)])
    assert store.hosts() == (H1, H2)


def test_changes_are_made_in_their_order(store: Store) -> None:
    store.keep([Remember(host=H1), Forget(name="h1"), Seen(name="h1", at=5)])
    assert store.hosts() == ()
    store.keep([Forget(name="h1"), Remember(host=H1), Seen(name="h1", at=5)])
    assert store.hosts() == (replace(H1, seen_at=5),)


def test_no_change_is_one_too(store: Store) -> None:
    store.keep([])
    assert store.hosts() == ()


NAMES = st.sampled_from(["h1", "h2", "h3"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.integers(min_value=0, max_value=2**40)
CHANGES = st.one_of(
    st.builds(
        Remember,
        host=st.builds(
            KeptHost,
            name=NAMES,
            address=TEXT,
            labels=st.dictionaries(TEXT, TEXT, max_size=3).map(
                lambda it: tuple(sorted(it.items()))
            ),
            agent_version=TEXT,
            seen_at=TIMES,
        ),
    ),
    st.builds(Seen, name=NAMES, at=TIMES),
    st.builds(Forget, name=NAMES),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=st.lists(st.lists(CHANGES, max_size=4), max_size=4))
def test_whatever_is_kept_all_stores_know_the_same(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Change]]
) -> None:
    place = tmp_path_factory.mktemp("stores")
    with opened("memory", place) as plain, opened("sqlite", place) as other:
        for batch in batches:
            plain.keep(batch)
            other.keep(batch)
            assert other.hosts() == plain.hosts()
    with opened("sqlite", place) as again:
        assert again.hosts() == plain.hosts(), "and after a restart"
