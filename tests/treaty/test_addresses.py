import pytest

from virt_preflight.treaty.addresses import is_address, is_local, wrong_address


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1", "unix:/x"]
)
def test_what_only_this_machine_reaches_is_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "127.example.org:1", "localhost.example.org:1", "h1:1"],
)
def test_anything_else_is_not(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize(
    "address", ["h1:1", "10.0.0.1:65535", "0.0.0.0:1", "[::]:1", "[fd00::1]:7", "unix:/x", "unix:x"]
)
def test_an_address_is_a_host_and_a_port_or_a_socket(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "h1",
        ":1",
        "h1:0",
        "h1:65536",
        "unix:",
        "unix:/\n",
        "::1:5",
        "h1:x",
        "h1:٣",
        "[h1]:1",
        "a b:1",
        "http://h1:1",
        "[::1]",
        "[::1:5",
        "h1:-1",
        "h1: 1",
        f"{'h' * 300}:1",
    ],
)
def test_anything_else_is_none(address: str) -> None:
    assert not is_address(address)
    assert wrong_address(("unix:/x", address, "h1")) == address
