import pytest

from virt_preflight.treaty.addresses import is_local


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
