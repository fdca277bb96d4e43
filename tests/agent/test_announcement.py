import re

import pytest

from virt_preflight.agent.announcement import announced
from virt_preflight.agent.settings import AnnounceSettings
from virt_preflight.treaty.tables import BadKeyError

FAR = ("10.0.0.1:50551",)
NEAR = ("127.0.0.1:50551",)


def said(listen: tuple[str, ...] = FAR, **given: object) -> tuple[tuple[str, ...], str, str]:
    settings = AnnounceSettings(**({"controllers": ("c1",)} | given))  # type: ignore[arg-type]
    made = announced(settings, "own.example", listen)
    assert made is not None
    return made.controllers, made.name, made.address


def test_who_names_no_controller_tells_nobody() -> None:
    assert announced(AnnounceSettings(labels={"rack": "r1"}), "own.example", NEAR) is None


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("c1", "c1:50552"),
        ("c1:7", "c1:7"),
        ("10.0.0.9", "10.0.0.9:50552"),
        ("fd00::9", "[fd00::9]:50552"),
        ("[fd00::9]:7", "[fd00::9]:7"),
        ("unix:/run/c", "unix:/run/c"),
    ],
)
def test_a_controllers_port_may_be_left_out(given: str, address: str) -> None:
    assert said(controllers=(given,))[0] == (address,)


def test_a_controller_that_is_named_twice_is_told_once() -> None:
    assert said(controllers=("c1", "c1:50552", "c2"))[0] == ("c1:50552", "c2:50552")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        (FAR, "10.0.0.1:50551"),
        ((*NEAR, *FAR), "10.0.0.1:50551"),
        (("0.0.0.0:7",), "own.example:7"),
        (("[::]:7",), "own.example:7"),
        (("h1.example:7",), "h1.example:7"),
    ],
)
def test_the_address_is_where_the_agent_listens(listen: tuple[str, ...], address: str) -> None:
    assert said(listen)[1:] == ("own.example", address)


def test_what_is_given_goes_before_what_is_derived() -> None:
    assert said(NEAR, name="h1", address="h1.other:7")[1:] == ("h1", "h1.other:7")


@pytest.mark.parametrize("controller", ["127.0.0.1", "localhost:7", "unix:/run/c"])
def test_a_controller_on_the_same_machine_reaches_loopback(controller: str) -> None:
    assert said(NEAR, controllers=(controller,))[2] == "127.0.0.1:50551"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "announce.address: this agent listens at 127.0.0.1:50551, where no controller"),
        ({"controllers": ("127.0.0.1", "c1")}, "announce.address: this agent listens at"),
        ({"controllers": ("",)}, "announce.controllers: '': wanted HOST, HOST:PORT or unix:/path"),
        ({"controllers": ("c1:99999",)}, "announce.controllers: 'c1:99999': wanted"),
        ({"controllers": ("http://c1",)}, "announce.controllers: 'http://c1': wanted"),
        ({"controllers": ("unix:",)}, "announce.controllers: 'unix:': wanted"),
        ({"name": "two words"}, "announce.name: 'two words' is not a host name"),
        ({"address": "h1"}, "announce.address: 'h1': wanted HOST:PORT or unix:/path"),
        ({"labels": {"a=b": "c"}}, "announce.labels.a=b: a=b=c is not a label"),
        ({"labels": {"rack": "\x1b"}}, "announce.labels.rack: "),
    ],
)
def test_what_cannot_be_announced_is_told_with_its_key(given: dict[str, object], told: str) -> None:
    with pytest.raises(BadKeyError, match=re.escape(told)):
        said(NEAR, **given)
