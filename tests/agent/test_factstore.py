from __future__ import annotations

from dataclasses import dataclass

from tests.agent.fake import FakeSource
from virt_preflight.agent.catalogue import Catalogue
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.fact import AnyProvider, Pace, Unknown, have, look, need
from virt_preflight.agent.factstore import FIXED_MAX_AGE_S, FactStore
from virt_preflight.agent.sources import Absent, Source


@dataclass(frozen=True)
class Kernel:
    text: str


@dataclass(frozen=True)
class Free:
    kib: int


@dataclass(frozen=True)
class Wish:
    text: str


@dataclass(frozen=True)
class Granted:
    text: str


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


READS: list[str] = []


@have(Pace.FIXED)
def kernel(source: Source) -> Kernel:
    READS.append("kernel")
    return Kernel(source.text("/kernel"))


@have(Pace.MOVING)
def free(source: Source) -> Free:
    READS.append("free")
    return Free(int(source.text("/free")))


@need
def wish(domain: Domain) -> Wish | None:
    title = domain.root.findtext("title")
    return Wish(title) if title else None


@look(Pace.FIXED)
def granted(source: Source, wish: Wish, kernel: Kernel) -> Granted:
    READS.append(f"granted {wish.text}")
    return Granted(f"{wish.text} on {kernel.text}")


def store(source: FakeSource, clock: Clock) -> FactStore:
    READS.clear()
    providers: tuple[AnyProvider, ...] = (kernel, free, wish, granted)
    return FactStore(
        source=source,
        catalogue=Catalogue(provider_by_type={one.gives: one for one in providers}, checks=()),
        clock=clock,
    )


def domain(title: str = "") -> Domain:
    return read_domain(f"<domain><name>g</name><title>{title}</title></domain>")


def test_each_fact_is_read_anew_at_its_pace() -> None:
    clock = Clock()
    facts = store(FakeSource(texts={"/kernel": "6.1", "/free": "8"}), clock)
    for _ in range(3):
        question = facts.question({Domain: domain()})
        assert question.value(Kernel) == Kernel("6.1")
        assert question.value(Free) == Free(8)
        clock.now_s += 0.9
    assert READS == ["kernel", "free", "free"]
    clock.now_s += FIXED_MAX_AGE_S
    facts.question({}).value(Kernel)
    assert READS[-1] == "kernel"


def test_who_wants_it_fresh_gets_all_anew() -> None:
    facts = store(FakeSource(texts={"/kernel": "6.1", "/free": "8"}), clock := Clock())
    facts.question({}).value(Kernel)
    clock.now_s += 0.001
    assert facts.question({}, max_age_s=0).known(Kernel).age_s == 0
    assert READS == ["kernel", "kernel"]


def test_a_question_asks_for_a_fact_once() -> None:
    facts = store(FakeSource(texts={"/kernel": "6.1", "/free": "8"}), clock := Clock())
    question = facts.question({}, max_age_s=0)
    question.value(Free)
    clock.now_s += 100
    question.value(Free)
    assert READS == ["free"]


def test_a_look_is_kept_by_what_was_asked() -> None:
    facts = store(FakeSource(texts={"/kernel": "6.1", "/free": "8"}), Clock())
    for title in ("a", "b", "a"):
        question = facts.question({Domain: domain(title)})
        assert question.value(Granted) == Granted(f"{title} on 6.1")
    assert READS == ["kernel", "granted a", "granted b"]


def test_a_guest_without_the_need_is_not_asked_for() -> None:
    question = store(FakeSource(), Clock()).question({Domain: domain()})
    assert question.value(Granted) is None


def test_what_cannot_be_read_is_unknown_and_so_is_what_builds_on_it() -> None:
    facts = store(FakeSource(texts={"/kernel": Absent("no such file")}), clock := Clock())
    question = facts.question({Domain: domain("a")})
    assert question.value(Granted) == Unknown("test_factstore: no such file")
    clock.now_s += 1.1
    facts.question({}).value(Kernel)
    assert READS == ["kernel", "kernel"], "what could not be learned is tried again soon"


def test_age_is_told() -> None:
    facts = store(FakeSource(texts={"/kernel": "6.1", "/free": "8"}), clock := Clock())
    facts.question({}).value(Kernel)
    clock.now_s += 30
    assert facts.question({}).known(Kernel).age_s == 30
