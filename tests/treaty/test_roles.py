import msgspec
import pytest

from virt_preflight.treaty.callers import Caller
from virt_preflight.treaty.roles import Role, Roles

LOCAL = Caller(name="unix:", trusted=True)
STRANGER = Caller(name="ipv4:127.0.0.1 uid=1000")


def alice(dn: str = "C=GB,O=Example,CN=alice", *others: str) -> Caller:
    return Caller(name=dn, certified=True, dn=dn, others=others)


def test_without_a_table_a_certificate_makes_a_viewer() -> None:
    assert Roles().of(alice()) is Role.VIEWER


def test_without_a_table_who_is_trusted_is_an_admin_and_all_others_are_schedulers() -> None:
    assert Roles().of(LOCAL) is Role.ADMIN
    assert Roles().of(STRANGER) is Role.SCHEDULER


@pytest.mark.parametrize("caller", [LOCAL, STRANGER])
@pytest.mark.parametrize("role", list(Role))
def test_what_the_table_says_of_local_callers_holds_for_all_of_them(
    caller: Caller, role: Role
) -> None:
    table = msgspec.convert({"local": str(role), "admin": ["*"]}, Roles)
    assert table.of(caller) is role


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("C=GB,O=Example,CN=alice", True),
        ("C=GB,O=Example,CN=*", True),
        ("*CN=alice", True),
        ("C=G?,O=Example,CN=alice", True),
        ("CN=alice", False),
        ("C=GB,O=Example,CN=alic", False),
        ("C=GB,O=Example,CN=ALICE", False),
        # Neither a set nor a regular expression: libvirt's patterns know `*` and `?` alone.
        ("C=GB,O=Example,CN=[a]lice", False),
        ("C=GB.O=Example.CN=alice", False),
        ("DNS:alice.example.org", True),
        ("DNS:*.EXAMPLE.org", True),
        ("DNS:alice", False),
        ("IP:10.0.0.*", True),
        ("URI:spiffe://example/*", True),
        ("URI:SPIFFE://example/*", False),
        ("EMAIL:alice@*", True),
        ("", False),
    ],
)
def test_a_pattern_is_for_one_kind_of_name(pattern: str, meant: bool) -> None:
    caller = alice(
        "C=GB,O=Example,CN=alice",
        "DNS:alice.example.org",
        "IP:10.0.0.7",
        "URI:spiffe://example/alice",
        "EMAIL:alice@example.org",
    )
    found = Roles(viewer=(), admin=(pattern,)).of(caller)
    assert found is (Role.ADMIN if meant else None)


@pytest.mark.parametrize("pattern", ["DSN:alice", "dns:alice", "URL:http://x?a=b", ":alice"])
def test_a_pattern_for_a_kind_of_name_that_there_is_not_is_refused(pattern: str) -> None:
    kind = pattern[: pattern.index(":") + 1]
    with pytest.raises(ValueError, match=rf"admin: '.*': no name begins with {kind} \(wanted DNS:"):
        Roles(admin=("CN=a:b,O=*", "*:alice", "IP:fd00::1", pattern))


def test_a_name_within_a_value_is_not_the_name() -> None:
    """A comma within a value is escaped, so it does not begin another part."""
    mallory = alice("C=GB,O=Example,CN=mallory\\,O=Example\\,CN=alice")
    assert Roles(admin=("C=GB,O=Example,CN=alice",)).of(mallory) is Role.VIEWER


def test_another_name_is_no_distinguished_name() -> None:
    mallory = alice("CN=mallory", "DNS:C=GB,O=Example,CN=alice")
    assert Roles(admin=("*alice",), viewer=()).of(mallory) is None


def test_the_highest_role_counts() -> None:
    roles = Roles(viewer=("*",), scheduler=("*alice",), admin=("*alice",))
    assert roles.of(alice()) is Role.ADMIN
    assert roles.of(alice("CN=bob")) is Role.VIEWER


def test_each_role_includes_those_before_it() -> None:
    assert [[a.includes(b) for b in Role] for a in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"operator": ["*"]}, "unknown field `operator`"),
        ({"local": "root"}, "Invalid enum value 'root'"),
        ({"admin": "*"}, "Expected `array`"),
    ],
)
def test_a_bad_table_is_told(table: dict[str, object], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(table, Roles)
