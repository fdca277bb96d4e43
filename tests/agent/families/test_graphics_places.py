from __future__ import annotations

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.families.chardevs import OpenPorts
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.graphics import (
    GuestGraphics,
    SeenKeymaps,
    Server,
    directory_shut,
    guest_graphics,
    guest_keymaps,
    guest_sockets,
    keymap_absent,
    port_reserved,
    seen_keymaps,
    seen_sockets,
)
from virt_preflight.agent.families.graphics.places import GuestKeymaps, GuestSockets, SeenSockets
from virt_preflight.agent.sources import User, Want

QEMU = QemuUser(user=User(name="qemu", uid=107, gid=107), dynamic_ownership=True)
SCREEN = "<graphics type='vnc' socket='/srv/v/a.sock' keymap='de'/>"


def domain(devices: str) -> Domain:
    return read_domain(
        "<domain><name>g</name><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
        f"{devices}</devices></domain>"
    )


def sockets() -> GuestSockets:
    graphics = guest_graphics(domain(SCREEN))
    assert graphics is not None
    found = guest_sockets(domain(SCREEN), graphics)
    assert found is not None
    return found


def seen(*, searches: bool = True, writes: bool | None = True) -> SeenSockets:
    mays = {(path, Want.EXECUTE, "qemu"): True for path in ("/", "/srv")}
    mays["/srv/v", Want.EXECUTE, "qemu"] = searches
    if writes is not None:
        mays["/srv/v", Want.WRITE, "qemu"] = writes
    return seen_sockets(FakeSource(mays=mays), sockets(), QEMU)


@pytest.mark.parametrize("host", [seen(searches=False), seen(writes=False)])
def test_a_socket_is_made_by_qemu_itself(host: SeenSockets) -> None:
    (problem,) = directory_shut(sockets(), host)
    assert isinstance(problem, Problem)
    assert problem.found == "qemu may not make anything in /srv/v"


def test_a_directory_that_is_open_or_that_is_not_there_is_not_shut() -> None:
    assert not list(directory_shut(sockets(), seen()))
    assert not list(directory_shut(sockets(), seen(writes=None)))


def test_a_screen_without_a_socket_makes_none() -> None:
    plain = domain("<graphics type='vnc' port='5901' listen='0.0.0.0'/>")
    graphics = guest_graphics(plain)
    assert graphics is not None
    assert guest_sockets(plain, graphics) is None


def keymaps() -> GuestKeymaps:
    found = guest_keymaps(domain(SCREEN))
    assert found is not None
    return found


def having(*names: str) -> SeenKeymaps:
    folder = {"/usr/share/qemu/keymaps": names} if names else {}
    return seen_keymaps(FakeSource(directories=folder), keymaps())


def test_a_keymap_that_qemu_has_not_is_refused() -> None:
    (problem,) = keymap_absent(keymaps(), having("en-us", "fr"))
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.wanted) == ("keymap de", "/usr/share/qemu/keymaps/de")


def test_a_keymap_that_qemu_has_is_fine_and_without_any_it_is_left_open() -> None:
    assert not list(keymap_absent(keymaps(), having("de", "en-us")))
    (left,) = keymap_absent(keymaps(), having())
    assert isinstance(left, CouldNotTell)
    assert guest_keymaps(domain("<graphics type='vnc'/>")) is None


def listening(port: int) -> GuestGraphics:
    return GuestGraphics(servers=(Server(kind="spice", ports=(port,)),), videos=())


def test_a_port_below_those_of_everybody_is_not_qemus() -> None:
    (problem,) = port_reserved(listening(590), OpenPorts(start=1024, user="qemu"))
    assert isinstance(problem, Problem)
    assert (problem.wanted, problem.found) == ("port 590 for qemu", "ports below 1024 are root's")


def test_a_port_of_everybody_and_a_qemu_that_is_root_are_fine() -> None:
    assert not list(port_reserved(listening(5900), OpenPorts(start=1024, user="qemu")))
    assert not list(port_reserved(listening(590), OpenPorts(start=0, user="root")))
