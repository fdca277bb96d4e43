import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.tenants import (
    GuestIdentity,
    HostIdentity,
    HostTenants,
    Tenant,
    already_there,
    guest_identity,
    host_identity,
    host_nameless,
    host_tenants,
    name_taken,
    same_host,
    uuid_taken,
)
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.sources import Unreadable

OURS = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
WEB = GuestIdentity(name="web1", uuid=OURS)
CONF = QemuConf(value_by_key={})


def tenants(
    name: str = "web1", uuid: str = OURS, *, active: bool = False, persistent: bool = True
) -> HostTenants:
    return HostTenants(
        tenants=(
            Tenant(name="another", uuid=OTHER.replace("9", "8"), active=True, persistent=True),
            Tenant(name=name, uuid=uuid, active=active, persistent=persistent),
        )
    )


def found(problems: Problems) -> list[str]:
    return [problem.found for problem in problems if isinstance(problem, Problem)]


def verdicts(guest: GuestIdentity, host: HostTenants) -> list[str]:
    return [
        *found(name_taken(guest, host)),
        *found(uuid_taken(guest, host)),
        *found(already_there(guest, host)),
    ]


def test_a_guest_is_known_by_its_name_and_uuid() -> None:
    domain = read_domain(f"<domain><name>web1</name><uuid>{OURS.upper()}</uuid></domain>")
    assert guest_identity(domain, MigrationOptions()) == WEB


def test_dname_is_the_name_there() -> None:
    domain = read_domain("<domain><name>web1</name></domain>")
    named = guest_identity(domain, MigrationOptions(dname="web2"))
    assert named == GuestIdentity(name="web2", uuid="")


def test_the_host_says_who_it_is() -> None:
    source = FakeSource(
        answers={
            ("capabilities",): f"<capabilities><host><uuid>{OURS}</uuid></host></capabilities>",
            ("hostname",): "h1.example.org\n",
        }
    )
    assert host_identity(source) == HostIdentity(uuid=OURS, hostname="h1.example.org")


def test_domains_are_listed_running_or_only_defined() -> None:
    listed = (
        f'[{{"name": "a", "uuid": "{OURS}", "id": 3, "state": "running", "persistent": false}},'
        f' {{"name": "b", "uuid": "{OTHER}", "id": null, "state": "shut off", "persistent": true}}]'
    )
    assert host_tenants(FakeSource(answers={("domains",): listed})).tenants == (
        Tenant(name="a", uuid=OURS, active=True, persistent=False),
        Tenant(name="b", uuid=OTHER, active=False, persistent=True),
    )


def test_a_list_that_is_none_tells_nothing() -> None:
    with pytest.raises(Unreadable):
        host_tenants(FakeSource(answers={("domains",): "{}"}))


def test_another_guest_of_that_name_is_in_the_way_though_it_is_only_defined() -> None:
    (problem,) = name_taken(WEB, tenants(uuid=OTHER))
    assert problem == Problem(
        subject="web1",
        wanted="a name that is free",
        found=f"taken by the defined guest {OTHER}",
        commands=("virsh domrename web1 NEW-NAME",),
    )


def test_a_running_guest_is_not_to_be_renamed() -> None:
    (problem,) = name_taken(WEB, tenants(uuid=OTHER, active=True))
    assert isinstance(problem, Problem)
    assert problem.commands == ()


def test_a_hostile_name_is_quoted() -> None:
    guest = GuestIdentity(name="x; reboot", uuid=OURS)
    (problem,) = name_taken(guest, tenants(name="x; reboot", uuid=OTHER))
    assert isinstance(problem, Problem)
    assert problem.commands == ("virsh domrename 'x; reboot' NEW-NAME",)


def test_another_name_for_that_uuid_is_in_the_way() -> None:
    host = tenants(name="web1-old", active=True)
    assert found(uuid_taken(WEB, host)) == ["taken by the running guest web1-old"]
    assert verdicts(WEB, host) == ["taken by the running guest web1-old"]


def test_when_the_uuid_is_there_libvirt_does_not_look_at_names() -> None:
    host = HostTenants(
        tenants=(
            Tenant(name="old", uuid=OURS, active=False, persistent=True),
            Tenant(name="web1", uuid=OTHER, active=False, persistent=True),
        )
    )
    assert verdicts(WEB, host) == ["taken by the defined guest old"]


def test_the_same_guest_running_there_is_in_the_way() -> None:
    assert found(already_there(WEB, tenants(active=True))) == ["running there"]
    assert verdicts(WEB, tenants(active=True)) == ["running there"]


def test_the_same_guest_on_its_way_there_is_in_the_way() -> None:
    assert verdicts(WEB, tenants(persistent=False)) == ["being started there"]


def test_the_same_guest_defined_and_shut_off_is_no_obstacle() -> None:
    assert not list(already_there(WEB, tenants()))
    assert not verdicts(WEB, tenants())


def test_a_free_name_and_uuid_are_no_obstacle() -> None:
    host = tenants(name="web2", uuid=OTHER, active=True)
    assert not list(uuid_taken(WEB, host))
    assert not verdicts(WEB, host)


def test_a_guest_without_a_uuid_gets_one_that_is_free() -> None:
    nameless = GuestIdentity(name="web1", uuid="")
    assert verdicts(nameless, tenants(active=True)) == [f"taken by the running guest {OURS}"]


def test_equal_host_uuids_are_the_same_host_to_libvirt() -> None:
    origin = GuestOrigin(host_name="h1", host_uuid=OURS.upper())
    (problem,) = same_host(origin, HostIdentity(uuid=OURS, hostname="h2"))
    assert problem == Problem(
        subject=f"host UUID {OURS}", wanted="another than that of h1", found="the same"
    )


def test_other_host_uuids_are_fine() -> None:
    origin = GuestOrigin(host_name="h1", host_uuid=OTHER)
    assert not list(same_host(origin, HostIdentity(uuid=OURS, hostname="h2")))


def test_hosts_without_a_uuid_are_left_open() -> None:
    unknown = GuestOrigin(host_name="h1", host_uuid="", unlearned={"HostIdentity": "hangs"})
    (left,) = same_host(unknown, HostIdentity(uuid=OURS, hostname="h2"))
    assert left == CouldNotTell(subject="host UUID", why="hangs")


@pytest.mark.parametrize("hostname", ["localhost", "localhost.localdomain"])
def test_a_host_that_calls_itself_localhost_cannot_be_reached(hostname: str) -> None:
    host = HostIdentity(uuid=OURS, hostname=hostname)
    assert found(host_nameless(MigrationOptions(), host, CONF)) == [hostname]


def test_a_name_is_not_needed_where_another_is_given() -> None:
    host = HostIdentity(uuid=OURS, hostname="localhost")
    configured = QemuConf(value_by_key={"migration_host": '"10.0.0.7"'})
    assert not list(host_nameless(MigrationOptions(migrateuri="tcp://h2"), host, CONF))
    assert not list(host_nameless(MigrationOptions(tunnelled=True), host, CONF))
    assert not list(host_nameless(MigrationOptions(), host, configured))


def test_a_host_with_a_name_is_fine() -> None:
    host = HostIdentity(uuid=OURS, hostname="h2.example.org")
    assert not list(host_nameless(MigrationOptions(), host, CONF))
