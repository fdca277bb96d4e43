"""deploy/tls/make.sh: certificates that our own code takes, and that the docs' patterns mean."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.controller.fakes import FakeAgent, by_tls
from tests.controller.samples import domain
from virt_preflight.controller import wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Heard
from virt_preflight.controller.fleet import FleetHost
from virt_preflight.treaty.callers import certified
from virt_preflight.treaty.certificates import Files, load
from virt_preflight.treaty.identities import ServerIdentity
from virt_preflight.treaty.roles import Role, Roles
from virt_preflight.treaty.tls import ClientTls

SCRIPT = Path(__file__).parents[2] / "deploy/tls/make.sh"
README = SCRIPT.parents[1] / "README.md"


def make(*arguments: str | Path, days: str = "397") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DAYS": days},
    )


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pki") / "ours"
    assert make(place, "ca").returncode == 0
    return place


def of(place: Path, name: str, side: str) -> Files:
    pki = place / name / "etc/pki"
    return Files(
        ca=pki / "CA/cacert.pem",
        cert=pki / f"libvirt/{side}cert.pem",
        key=pki / f"libvirt/private/{side}key.pem",
    )


def test_a_host_gets_certificates_in_libvirts_layout(place: Path) -> None:
    made = make(place, "host", "h1", "h1.example.org", "10.0.0.1", "fd00::1")
    assert made.returncode == 0, made.stderr
    for side in ("server", "client"):
        files = of(place, "h1", side)
        loaded = load(files)
        assert timedelta(395) < loaded.ends - datetime.now(UTC) < timedelta(398)
        assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    caller = certified(loaded.cert)
    assert caller.dn == "O=virt-preflight,OU=host,CN=h1"
    assert caller.others == ("DNS:h1", "DNS:h1.example.org", "IP:10.0.0.1", "IP:fd00::1")


def modes(below: Path) -> dict[str, str]:
    return {
        str(path.relative_to(below)): f"{stat.S_IMODE(path.stat().st_mode):o}"
        for path in below.rglob("*")
    }


def test_only_keys_and_their_folder_are_hidden(place: Path) -> None:
    assert make(place, "host", "h4").returncode == 0
    assert modes(place / "h4") == {
        "etc": "755",
        "etc/pki": "755",
        "etc/pki/CA": "755",
        "etc/pki/CA/cacert.pem": "644",
        "etc/pki/libvirt": "755",
        "etc/pki/libvirt/clientcert.pem": "644",
        "etc/pki/libvirt/servercert.pem": "644",
        "etc/pki/libvirt/private": "700",
        "etc/pki/libvirt/private/clientkey.pem": "600",
        "etc/pki/libvirt/private/serverkey.pem": "600",
    }


def test_folders_that_a_host_has_stay_as_they_are_when_it_is_given_its_files(
    place: Path, tmp_path: Path
) -> None:
    """By the command of the README, with the host's root in another place."""
    assert make(place, "host", "h2").returncode == 0
    private = tmp_path / "etc/pki/libvirt/private"
    private.mkdir(parents=True)
    for folder, mode in (
        (private, 0o750),
        (tmp_path / "etc/pki", 0o711),
        (tmp_path / "etc", 0o755),
    ):
        folder.chmod(mode)
    (place / "h2/etc").chmod(0o700)  # as by a tool that is not ours
    given = re.search(r"^ +(tar -C pki/.*)$", README.read_text(), re.MULTILINE)
    assert given is not None
    command = given[1].replace("pki/$machine", f"{place}/h2")
    command = command.replace("ssh root@$machine tar -C /", "tar -C .")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    now = modes(tmp_path)
    assert (now["etc"], now["etc/pki"], now["etc/pki/libvirt/private"]) == ("755", "711", "750")
    assert now["etc/pki/libvirt/private/serverkey.pem"] == "600"
    assert now["etc/pki/libvirt/servercert.pem"] == "644"


def test_a_person_gets_what_libvirts_clients_look_for_at_home(place: Path) -> None:
    made = make(place, "person", "alice")
    assert made.returncode == 0, made.stderr
    home = place / "alice/.pki/libvirt"
    loaded = load(
        Files(ca=home / "cacert.pem", cert=home / "clientcert.pem", key=home / "clientkey.pem")
    )
    assert certified(loaded.cert).dn == "O=virt-preflight,OU=person,CN=alice"


def test_a_person_cannot_have_the_name_of_a_machine_nor_the_other_way_round(place: Path) -> None:
    """By it he could announce himself as that host."""
    assert make(place, "person", "h9").returncode == 0
    assert make(place, "host", "h10").returncode == 0
    for kind, name in (("host", "h9"), ("controller", "h9"), ("person", "h10")):
        made = make(place, kind, name)
        assert made.returncode == 1
        assert made.stderr == f"make.sh: {name}: a person and a machine cannot have one name\n"


def test_roles_can_be_given_by_kind(place: Path) -> None:
    assert make(place, "controller", "ctl").returncode == 0
    caller = certified(load(of(place, "ctl", "client")).cert)
    assert Roles(admin=("O=virt-preflight,OU=controller,CN=*",)).of(caller) is Role.ADMIN


def test_with_them_a_command_hears_an_agent(place: Path) -> None:
    assert make(place, "host", "h3").returncode == 0
    assert make(place, "person", "bob").returncode == 0
    home = place / "bob/.pki/libvirt"
    tls = ClientTls(
        ca=str(home / "cacert.pem"),
        client_cert=str(home / "clientcert.pem"),
        client_key=str(home / "clientkey.pem"),
        loopback=True,
    )

    async def asking(address: str) -> object:
        async with Agents(1, tls) as agents:
            host = FleetHost(name="h3", address=address)
            return await agents.ask(host, wire.list_domains("db1"), 5)

    agent = FakeAgent("h3", {"ListDomains": domain()})
    with by_tls(agent, ServerIdentity(of(place, "h3", "server"))) as address:
        assert isinstance(asyncio.run(asking(address)), Heard)


def test_a_certificate_is_renewed_and_an_authority_is_not(place: Path) -> None:
    assert make(place, "host", "h2", days="3").returncode == 0
    first = load(of(place, "h2", "server"))
    assert make(place, "host", "h2").returncode == 0
    second = load(of(place, "h2", "server"))
    assert second.ends > first.ends
    again = make(place, "ca")
    assert again.returncode == 1
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "wanted one of"),
        (("guest", "x"), "guest: wanted ca, host, controller or person"),
        (("host",), "host: wanted a name"),
        (("host", "h1/../../x"), "is no name of a host"),
        (("host", "h1,DNS:*"), "is no name of a host"),
        (("host", "h1\nCA:TRUE"), "is no name of a host"),
        (("host", "-h"), "is no name of a host"),
        (("host", "h1", "1.2.3.999"), "could not sign"),
    ],
)
def test_what_makes_no_sense_is_one_line(place: Path, arguments: tuple[str, ...], why: str) -> None:
    made = make(place, *arguments)
    assert made.returncode == 1
    assert made.stderr.startswith("make.sh: ")
    if arguments:
        assert why in made.stderr


def test_without_an_authority_it_says_how_to_make_one(tmp_path: Path) -> None:
    made = make(tmp_path, "host", "h1")
    assert (made.returncode, made.stderr) == (
        1,
        f"make.sh: no {tmp_path}/cakey.pem: make.sh {tmp_path} ca makes it\n",
    )
    assert make(tmp_path, "ca", days="many").stderr == (
        "make.sh: DAYS=many: wanted a number of days\n"
    )
