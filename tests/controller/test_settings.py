from pathlib import Path

import pytest

from virt_preflight.controller.settings import (
    Limits,
    Settings,
    address_of,
    parse,
    read_settings,
)
from virt_preflight.controller.trouble import CannotRunError, MisusedError


def test_an_empty_file_is_all_defaults() -> None:
    assert parse(b"") == Settings()


def test_what_is_given_is_taken() -> None:
    given = parse(b'listen = ["unix:/run/c"]\nfleet = "f"\n[limits]\nrequests_per_caller = 3\n')
    assert given == Settings(
        listen=("unix:/run/c",), fleet="f", limits=Limits(requests_per_caller=3)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# first\nlisten_at = []\n", "line 2: listen_at: there is no such key"),
        ("[limits]\n\n guest = 1\n", "line 3: limits.guest: there is no such key"),
        ("limits = { guest = 1 }\n", "line 1: limits.guest: there is no such key"),
        ("grace_s = -1\n", "line 1: grace_s: expected float >= 0.0"),
        ('[limits]\nrequests = "many"\n', "line 2: limits.requests: expected int, got str"),
        ('listen = ["a:1",\n  7]\n', "line 1: listen[1]: expected str, got int"),
        ("[limit]\n", "line 1: limit: there is no such key"),
        ("grace_s = \n", "Invalid value (at line 1, column 11)"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_key(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse(text.encode())
    assert str(error.value) == said


def test_a_pattern_of_a_role_that_can_mean_nobody_is_told() -> None:
    with pytest.raises(ValueError, match="line 1: roles: admin: 'DSN:x': no name begins with DSN:"):
        parse(b"[roles]\nadmin = ['DSN:x']\n")


def test_what_is_no_text_is_told_with_its_line() -> None:
    with pytest.raises(ValueError, match="line 3: not UTF-8"):
        parse(b"\n\nfleet = \xff")


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="no such file"):
        read_settings(tmp_path / "controller.toml")


def test_a_file_that_is_too_large_is_not_read_to_its_end() -> None:
    with pytest.raises(CannotRunError, match="/dev/zero: larger than 1 MiB"):
        read_settings(Path("/dev/zero"))


def test_an_address_that_is_none_is_told_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"line 2: listen: 'h1': wanted HOST:PORT or unix:/path"):
        parse(b"\nlisten = ['127.0.0.1:1', 'h1']\n")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("h1", "h1:50552"),
        ("h1:7", "h1:7"),
        ("[::1]", "[::1]:50552"),
        ("[::1]:7", "[::1]:7"),
        ("unix:/run/c", "unix:/run/c"),
    ],
)
def test_the_port_of_a_controller_may_be_left_out(given: str, address: str) -> None:
    assert address_of(given) == address


@pytest.mark.parametrize("given", ["unix:", "h1:0", "a:b:1", "::1"])
def test_a_controllers_address_that_is_none(given: str) -> None:
    with pytest.raises(MisusedError, match="wanted HOST, HOST:PORT or unix:/path"):
        address_of(given)
