from tests.agent.fake import FakeSource
from virt_preflight.agent.lookups import look_up
from virt_preflight.agent.origin import Lookup
from virt_preflight.agent.sources import Absent, Impossible, Refused, SourceError, Unreadable

ADDRESSES: dict[str, tuple[str, ...] | SourceError] = {
    "h2": ("10.0.0.2",),
    "h3": Absent("h3: Name or service not known"),
    "h4": Refused("h4: is this host itself here (127.0.1.1)"),
    "h5": Unreadable("h5: Temporary failure in name resolution"),
}


def test_each_name_has_its_answer_a_fault_or_a_doubt() -> None:
    assert look_up(FakeSource(addresses=ADDRESSES), ["h2", "h3", "h4", "h5", "h2", ""]) == {
        "h2": Lookup(),
        "h3": Lookup(fault="h3: Name or service not known"),
        "h4": Lookup(fault="h4: is this host itself here (127.0.1.1)"),
        "h5": Lookup(doubt="h5: Temporary failure in name resolution"),
    }


def test_many_names_keep_their_order() -> None:
    names = [f"h{number}" for number in range(500)]
    found = look_up(FakeSource(addresses=dict.fromkeys(names, ("10.0.0.2",))), names)
    assert list(found or {}) == names


def test_without_names_or_without_a_resolver_nothing_is_said() -> None:
    assert look_up(FakeSource(), []) is None
    assert look_up(FakeSource(addresses={"h2": Impossible("a recording")}), ["h2"]) is None
