import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.tenants import HostIdentity
from virt_preflight.agent.families.transport import (
    KNOCK_AT,
    AddressSeen,
    LookedUp,
    MigrationAddress,
    PortFree,
    address_seen,
    looked_up,
    migration_address,
    no_way,
    own_name_unknown,
    port_free,
    port_taken,
    unknown_name,
)
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin, Lookup
from virt_preflight.agent.sources import Absent, Refused, SourceError, Unreadable

H2 = MigrationAddress(host="h2", port=None)


def seen(error: SourceError | None) -> AddressSeen:
    return address_seen(FakeSource(reaches={("h2", KNOCK_AT): error}), H2)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("tcp://h2", H2),
        ("tcp:h2", H2),
        ("tcp:h2:49200", MigrationAddress(host="h2", port=49200)),
        ("tcp://[fe80::1]:49200", MigrationAddress(host="fe80::1", port=49200)),
        ("", None),
        ("unix:///run/m.sock", None),
        ("tcp://h2:99999999", None),
        ("tcp:", None),
    ],
)
def test_the_address_is_read_from_the_uri(uri: str, address: MigrationAddress | None) -> None:
    assert migration_address(MigrationOptions(migrateuri=uri)) == address


def test_a_name_that_the_source_does_not_know_is_told() -> None:
    (problem,) = unknown_name(H2, seen(Absent("h2: Name or service not known")))
    assert isinstance(problem, Problem)
    assert problem.found == "h2: Name or service not known"


def test_a_host_that_refuses_is_there() -> None:
    there = seen(Refused("h2 port 1: connection refused"))
    assert there == seen(None) == AddressSeen()
    assert not list(unknown_name(H2, there))
    assert not list(no_way(H2, there))


def test_no_route_is_sure_and_silence_is_not() -> None:
    (problem,) = no_way(H2, seen(Refused("h2 port 1: No route to host")))
    assert isinstance(problem, Problem)
    (left,) = no_way(H2, seen(Refused("h2 port 1: no answer within 1 s")))
    assert isinstance(left, CouldNotTell)


def test_a_source_that_cannot_ask_leaves_it_open() -> None:
    with pytest.raises(Unreadable):
        seen(Unreadable("no time left"))


def test_a_fixed_port_must_be_free_of_both_families() -> None:
    fixed = MigrationAddress(host="h2", port=49200)
    for v4, v6 in ((True, True), (True, False), (False, True)):
        source = FakeSource(bindables={("0.0.0.0", 49200): v4, ("::", 49200): v6})
        assert port_free(source, fixed) == PortFree(port=49200, free=v4 and v6)
    assert port_free(FakeSource(), H2) is None


def test_a_taken_port_is_refused() -> None:
    (problem,) = port_taken(H2, PortFree(port=49200, free=False))
    assert isinstance(problem, Problem)
    assert problem.wanted == "port 49200 free"


def test_a_free_port_is_fine() -> None:
    assert not list(port_taken(H2, PortFree(port=49200, free=True)))


UNKNOWN = Lookup(fault="h2.example: Name or service not known")


def own(
    lookup_by_name: dict[str, Lookup], *, hostname: str = "h2.example", conf: str = ""
) -> tuple[LookedUp, HostIdentity, QemuConf]:
    """A host of that name, and what the source found under which names."""
    return (
        LookedUp(lookup_by_name=lookup_by_name),
        HostIdentity(uuid="", hostname=hostname),
        QemuConf(value_by_key={"migration_host": conf} if conf else {}),
    )


def test_a_host_that_the_source_does_not_know_by_its_own_name_is_told() -> None:
    (problem,) = own_name_unknown(*own({"h2.example": UNKNOWN, "h3.example": Lookup()}))
    assert isinstance(problem, Problem)
    assert problem.found == "h2.example: Name or service not known"
    assert problem.commands == ("getent ahosts h2.example",)


def test_a_name_that_the_source_knows_is_no_trouble() -> None:
    assert not list(own_name_unknown(*own({"h2.example": Lookup(), "h3.example": UNKNOWN})))


def test_the_name_in_qemu_conf_goes_before_the_host_s_own() -> None:
    assert not list(
        own_name_unknown(*own({"h2.example": UNKNOWN, "10.0.0.2": Lookup()}, conf='"10.0.0.2"'))
    )
    assert not list(own_name_unknown(*own({"fd00::2": Lookup()}, conf='"[fd00::2]"')))
    assert list(
        own_name_unknown(*own({"h2.example": Lookup(), "mig-h2": UNKNOWN}, conf='"mig-h2"'))
    )


def test_of_a_name_that_nobody_looked_up_nothing_is_known() -> None:
    for lookups in ({}, {"h2.example": Lookup(doubt="Temporary failure in name resolution")}):
        (left,) = own_name_unknown(*own(lookups))
        assert isinstance(left, CouldNotTell)


def test_a_host_called_localhost_is_another_check_s() -> None:
    assert not list(own_name_unknown(*own({"localhost": UNKNOWN}, hostname="localhost")))


@pytest.mark.parametrize(
    "options",
    [
        MigrationOptions(migrateuri="tcp://10.0.0.2"),
        MigrationOptions(tunnelled=True),
        MigrationOptions(offline=True),
    ],
)
def test_where_the_source_is_told_no_name_none_is_looked_at(options: MigrationOptions) -> None:
    origin = GuestOrigin(host_name="h1", host_uuid="", lookup_by_name={"h2": UNKNOWN})
    assert looked_up(options, origin) is None
    assert looked_up(MigrationOptions(), origin) == LookedUp(lookup_by_name={"h2": UNKNOWN})


def test_a_source_that_was_not_asked_is_not_held_against_anybody() -> None:
    origin = GuestOrigin(host_name="h1", host_uuid="")
    assert looked_up(MigrationOptions(), origin) is None
