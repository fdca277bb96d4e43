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
    MigrationListener,
    PortFree,
    SourceAddress,
    address_not_here,
    address_seen,
    leads_to_itself,
    looked_up,
    migration_address,
    migration_listener,
    no_free_port,
    no_way,
    not_this_host,
    own_name_unknown,
    port_free,
    port_taken,
    source_address,
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


# ----------------------------------------------------------------------- addresses of one's own


H1 = HostIdentity(uuid="1", hostname="h1")
OWN = {("10.0.0.1", 0): True, ("10.0.0.2", 0): False, ("127.0.0.1", 0): True}


def leading(address: MigrationAddress) -> SourceAddress:
    return source_address(FakeSource(bindables=OWN), address, H1)


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "localhost", "h1"])
def test_an_address_that_leads_the_source_to_itself_leads_nowhere(host: str) -> None:
    address = MigrationAddress(host=host, port=None)
    (problem,) = leads_to_itself(address, leading(address))
    assert isinstance(problem, Problem)
    assert problem.found == "the source's own"


@pytest.mark.parametrize("host", ["10.0.0.2", "h2", "migrate.h2.example"])
def test_another_address_leads_away(host: str) -> None:
    address = MigrationAddress(host=host, port=None)
    assert not list(leads_to_itself(address, leading(address)))


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 49152), ("fe80::1", None)])
def test_with_a_port_a_tunnel_may_lead_on_and_nobody_can_tell(host: str, port: int | None) -> None:
    address = MigrationAddress(host=host, port=port)
    (left,) = leads_to_itself(address, leading(address))
    assert isinstance(left, CouldNotTell)


def test_a_number_that_is_none_of_the_destinations_is_a_risk() -> None:
    address = MigrationAddress(host="10.0.0.2", port=None)
    (problem,) = not_this_host(address, leading(address))
    assert isinstance(problem, Problem)
    assert problem.found == "none of its own"


@pytest.mark.parametrize("host", ["10.0.0.1", "h9"])
def test_a_number_of_the_destinations_is_fine_and_a_name_is_not_judged(host: str) -> None:
    address = MigrationAddress(host=host, port=None)
    assert not list(not_this_host(address, leading(address)))


def listener(
    busy: tuple[int, ...] = (), bindables: dict[tuple[str, int], bool] | None = None, **conf: str
) -> MigrationListener:
    free = {
        (host, port): port not in busy for host in ("::", "0.0.0.0") for port in range(49150, 49300)
    }
    return migration_listener(
        FakeSource(bindables={**free, **OWN, **(bindables or {})}), QemuConf(value_by_key=conf)
    )


def test_a_destination_waits_at_migration_address_and_nowhere_else() -> None:
    assert not list(address_not_here(listener(), PLAIN))
    assert not list(address_not_here(listener(migration_address='"10.0.0.1"'), PLAIN))
    elsewhere = listener(migration_address='"10.0.0.2"')
    (problem,) = address_not_here(elsewhere, PLAIN)
    assert isinstance(problem, Problem)
    assert problem.found == "10.0.0.2, which is not"
    assert not list(address_not_here(elsewhere, MigrationOptions(tunnelled=True)))
    (left,) = address_not_here(listener(migration_address='"10.0.0.9"'), PLAIN)
    assert isinstance(left, CouldNotTell)


PLAIN = MigrationOptions(live=True, p2p=True)


def test_one_free_port_of_the_range_is_enough() -> None:
    assert not list(no_free_port(listener(busy=tuple(range(49152, 49215))), PLAIN))
    (problem,) = no_free_port(listener(busy=tuple(range(49152, 49216))), PLAIN)
    assert isinstance(problem, Problem)
    assert problem.wanted == "a free one of 49152 to 49215"


def test_a_port_that_is_taken_by_ipv6_alone_is_taken() -> None:
    taken = {("::", port): False for port in range(49152, 49216)}
    assert list(no_free_port(listener(bindables=taken), PLAIN))


def test_the_range_is_qemu_confs_and_a_fixed_port_is_of_none() -> None:
    small = listener(busy=(49200, 49201), migration_port_min="49200", migration_port_max="49201")
    assert list(no_free_port(small, PLAIN))
    fixed = MigrationOptions(migrateuri="tcp://h2:50000")
    assert not list(no_free_port(small, fixed))
    (left,) = no_free_port(listener(migration_port_min="60000", migration_port_max="60001"), PLAIN)
    assert isinstance(left, CouldNotTell)
    assert listener(migration_port_min="many").ports == range(49152, 49216)
