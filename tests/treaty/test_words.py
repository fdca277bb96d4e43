import pytest

from virt_preflight.treaty.words import is_host_name, is_label


@pytest.mark.parametrize(
    "name", ["h1", "h1.example.org", "h_1", "H-1", "10.0.0.1", "fd00::1", "a."]
)
def test_a_host_may_be_called_so(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "-h1", "h1-", ".h1", "h1 ", "h1\n", "h1/x", "h:1", "fe80::1%eth0", "hé", "h" * 254],
)
def test_a_host_may_not_be_called_so(name: str) -> None:
    assert not is_host_name(name)


@pytest.mark.parametrize(("key", "value"), [("rack", "r1"), ("a.b/c-d_e", ""), ("0", "süd, 1=1")])
def test_this_can_be_said_of_a_host(key: str, value: str) -> None:
    assert is_label(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("", "x"), ("a=b", "x"), ("a,b", "x"), ("é", "x"), ("a", "\x1b")],
)
def test_this_cannot(key: str, value: str) -> None:
    assert not is_label(key, value)
