import re
from pathlib import Path

import pytest

from virt_preflight.controller import fleet
from virt_preflight.controller.fleet import (
    Fleet,
    FleetHost,
    Uris,
    from_names,
    is_at,
    locate,
    parse,
    read,
    selected,
    uri_of,
)
from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.treaty.tls import ClientTls

WHOLE = b"""
[uris]
connect = "qemu+ssh://root@{host}.example/system"
migrate = "qemu+tcp://{host}.mig/system"
[defaults]
port = 6000
timeout_s = 2
deadline_s = 20.5
in_flight = 8
[[host]]
name = "h1"
[[host]]
name = "h2"
address = "10.0.0.2:7000"
[[host]]
name = "h3"
address = "unix:/run/h3.sock"
[[host]]
name = "h4"
address = "mgmt-h4"
[[host]]
name = "fd00::5"
"""


def test_a_whole_file_is_understood() -> None:
    known = parse(WHOLE)
    assert [(host.name, host.address) for host in known.hosts] == [
        ("h1", "h1:6000"),
        ("h2", "10.0.0.2:7000"),
        ("h3", "unix:/run/h3.sock"),
        ("h4", "mgmt-h4:6000"),
        ("fd00::5", "[fd00::5]:6000"),
    ]
    assert (known.timeout_s, known.deadline_s, known.in_flight) == (2.0, 20.5, 8)
    assert known.uris.connect == "qemu+ssh://root@{host}.example/system"
    assert known.named("h2") == FleetHost(name="h2", address="10.0.0.2:7000")
    assert known.named("h9") is None


def test_names_are_enough() -> None:
    known = parse(b'[[host]]\nname = "h1"')
    assert known.hosts == (FleetHost(name="h1", address="h1:50551"),)
    assert known.uris == Uris()
    assert (known.timeout_s, known.in_flight) == (5.0, 256)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "host: no host is listed"),
        ("hosts = []", "line 1: hosts: there is no such key"),
        ("[uris]\nkonnect = 'x'", "line 2: uris.konnect: there is no such key"),
        ("[defaults]\nport = '50551'", "line 2: defaults.port: expected int, got str"),
        ("[defaults]\nport = 0", "defaults.port: expected int >= 1"),
        ("[defaults]\ntimeout_s = nan", "defaults.timeout_s: expected float > 0.0"),
        ("[defaults]\nin_flight = 0", "defaults.in_flight: expected int >= 1"),
        ("[[host]]\nname='a'\n[[host]]\naddress='b'", "line 3: host[1]: the key name is missing"),
        ("[[host]]\nname='a'\n[[host]]\nname='b'\n\nport=1", "line 6: host[1].port: there is"),
        ("[[host]]\nname='a'\n[host.labels]\nrack=1", "line 1: host[0].labels[...]: expected str"),
        ("[[host]]\nname='a'\ncolour='b'", "line 3: host[0].colour: there is no such key"),
        (
            "[[host]]\nname='a'\n[[host]]\nname='a'",
            "line 4: host[1].name: a is listed more than once",
        ),
        ("[[host]]\nname='a b'", "line 2: host[0].name: 'a b' is not a host name"),
        ("[[host]]\nname='-a'", "host[0].name: '-a' is not a host name"),
        (
            "[[host]]\nname='a'\naddress='a:99999'",
            "line 3: host[0].address: 'a:99999': the port is",
        ),
        ("[[host]]\nname='a'\naddress='unix:'", "host[0].address: 'unix:' names no socket"),
        ("[[host]]\nname='a'\naddress='dns:///a'", "host[0].address: 'dns:///a': the port is"),
        (
            "[uris]\nconnect='qemu:///system'\n[[host]]\nname='a'",
            "line 2: uris.connect: has no {host}",
        ),
        (
            "[uris]\nmigrate='x {host}'\n[[host]]\nname='a'",
            "line 2: uris.migrate: 'x {host}' is not a URI",
        ),
        ("a = 1\nb =\n", "Invalid value (at line 2, column 4)"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(text.encode())


def test_text_that_is_not_utf_8_is_told_with_its_line() -> None:
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        parse(b"[uris]\nconnect = '\xff'")


def test_a_broken_file_is_told_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text("[[host]]\nname = 3")
    with pytest.raises(
        CannotRunError, match=r"fleet\.toml: line 2: host\[0\]\.name: expected str, got int"
    ):
        read(file)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(CannotRunError, match="No such file"):
        read(tmp_path / "none.toml")


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(CannotRunError, match="larger than 16 MiB"):
        read(Path("/dev/zero"))


def test_the_first_place_that_holds_a_fleet_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "etc.toml"
    monkeypatch.setattr(fleet, "SYSTEM_FLEET", system)
    home = {"HOME": str(tmp_path)}
    with pytest.raises(
        CannotRunError, match=r"looked at \$VIRT_PREFLIGHT_FLEET \(not set\), .*etc"
    ):
        locate(None, home)
    system.touch()
    assert locate(None, home) == system
    assert locate(None, {}) == system
    own = tmp_path / ".config/virt-preflight/fleet.toml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert locate(None, home) == own
    assert locate(None, {**home, "VIRT_PREFLIGHT_FLEET": "/x"}) == Path("/x")
    assert locate("/y", {**home, "VIRT_PREFLIGHT_FLEET": "/x"}) == Path("/y")


def test_hosts_can_be_named_on_the_command_line() -> None:
    known = from_names("h1, h2:7,10.0.0.3,[fd00::4]:9,fd00::5,h6=unix:/run/h6.sock,h7=mgmt:8")
    assert [(host.name, host.address) for host in known.hosts] == [
        ("h1", "h1:50551"),
        ("h2", "h2:7"),
        ("10.0.0.3", "10.0.0.3:50551"),
        ("fd00::4", "[fd00::4]:9"),
        ("fd00::5", "[fd00::5]:50551"),
        ("h6", "unix:/run/h6.sock"),
        ("h7", "mgmt:8"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (",", "no host is named"),
        ("h1,h1", "h1 is listed more than once"),
        ("h1:x", "the port is a number"),
        ("h1:", "the port is a number"),
        ("unix:/run/a.sock", "a socket needs a name, as h1=unix:/run/a.sock"),
        ("h\x1b1", "is not a host name"),
        ("=h1", "is not a host name"),
    ],
)
def test_a_bad_list_of_hosts_is_a_misuse(text: str, complaint: str) -> None:
    with pytest.raises(MisusedError, match="--hosts: .*" + re.escape(complaint)):
        from_names(text)


def test_a_uri_template_is_filled_in_and_nothing_else_of_it_is_interpreted() -> None:
    assert uri_of("qemu+ssh://{host}/system?x={0}", "h1") == "qemu+ssh://h1/system?x={0}"
    assert uri_of("qemu+tls://{host}/system", "fd00::1") == "qemu+tls://[fd00::1]/system"


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("qemu+tls://h2/system", True),
        ("qemu+tcp://root@H2:16509/system", True),
        ("qemu+tls://10.0.0.2/system", True),
        ("qemu+tls://h3/system", False),
        ("qemu:///system", False),
        ("qemu+tls://[::1", False),
    ],
)
def test_whether_a_uri_names_a_host(uri: str, named: bool) -> None:
    assert is_at(FleetHost(name="h2", address="10.0.0.2:50551"), uri) is named


def test_an_ipv6_address_and_a_socket_are_held_against_a_uri() -> None:
    assert is_at(FleetHost(name="h2", address="[fd00::2]:50551"), "qemu+tls://[fd00::2]/system")
    assert not is_at(FleetHost(name="h2", address="unix:/run/x.sock"), "qemu+tls://unix/system")


def test_labels_are_what_the_operator_says_of_a_host() -> None:
    fleet = parse(b'[[host]]\nname = "h1"\nlabels = { zone = "a b", rack = "r1" }\n')
    assert fleet.hosts[0].labels == (("rack", "r1"), ("zone", "a b"))


@pytest.mark.parametrize("labels", ['{ "a=b" = "c" }', '{ "" = "c" }', '{ a = "\\n" }'])
def test_a_label_that_could_not_be_asked_for_is_refused(labels: str) -> None:
    with pytest.raises(ValueError, match=r"host\[0\].labels"):
        parse(f'[[host]]\nname = "h1"\nlabels = {labels}\n'.encode())


def test_hosts_are_selected_by_all_labels_at_once() -> None:
    hosts = parse(
        b'[[host]]\nname = "h1"\nlabels = { rack = "r1", ssd = "yes" }\n'
        b'[[host]]\nname = "h2"\nlabels = { rack = "r1" }\n[[host]]\nname = "h3"\n'
    ).hosts
    assert [host.name for host in selected(hosts, ["rack=r1"])] == ["h1", "h2"]
    assert [host.name for host in selected(hosts, ["rack=r1", "ssd=yes"])] == ["h1"]
    assert selected(hosts, []) == hosts


def test_certificates_and_hosts_without_tls_are_named_in_the_file() -> None:
    one = fleet.parse(
        b"[tls]\nca = '/a'\nloopback = true\n[[host]]\nname='h1'\n"
        b"[[host]]\nname='h2'\ninsecure=true\n"
    )
    assert one.tls == ClientTls(ca="/a", loopback=True)
    assert [host.insecure for host in one.hosts] == [False, True]
    both = fleet.parse(b"insecure=true\n[[host]]\nname='h1'\n[[host]]\nname='h2'\n")
    assert [host.insecure for host in both.hosts] == [True, True]


def test_a_key_of_the_table_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"line 2: tls\.certificate: there is no such key"):
        fleet.parse(b"[tls]\ncertificate = '/a'\n[[host]]\nname='h1'\n")


def test_a_file_that_names_certificates_and_no_host_leaves_the_hosts_to_a_controller(
    tmp_path: Path,
) -> None:
    file = tmp_path / "fleet.toml"
    environ = {"VIRT_PREFLIGHT_FLEET": str(file)}
    file.write_text("[tls]\nca = '/a'\n")
    assert not fleet.is_known(environ)
    assert fleet.trust(None, environ) == fleet.Trust(tls=ClientTls(ca="/a"))
    assert fleet.trust(str(file), {}) == fleet.trust(None, environ)
    assert fleet.read(file, hosts_may_come=True) == Fleet(hosts=(), tls=ClientTls(ca="/a"))
    with pytest.raises(CannotRunError, match="no host is listed"):
        fleet.read(file)
    file.write_text("[[host]]\nname = 'h1'\n")
    assert fleet.is_known(environ)
    assert fleet.trust(None, environ) == fleet.Trust()
