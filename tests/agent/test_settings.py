from pathlib import Path

import pytest

from virt_preflight.agent.settings import BadSettings, Settings, read_settings


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "agent.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    return read_settings(path)


def test_every_key_has_a_default(tmp_path: Path) -> None:
    read = settings(tmp_path, "")
    assert read.listen == ("127.0.0.1:50551",)
    assert read.as_policy().memory_reserved_kib == 512 * 1024


def test_the_operators_policy_is_read(tmp_path: Path) -> None:
    read = settings(tmp_path, "[policy]\nmemory_reserved_mib = 1\nmemory_overcommit = 1.5\n")
    policy = read.as_policy()
    assert (policy.memory_reserved_kib, policy.memory_overcommit) == (1024, 1.5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lisen = []", "line 1: lisen: there is no such key"),
        ("listen = 7", "line 1: listen: expected array"),
        ("[policy]\nmemory_overcommit = 'much'", "line 2: policy.memory_overcommit: expected"),
        ("[roles]\nowner = []", "line 2: roles.owner: there is no such key"),
        ("[roles]\nadmin = ['DSN:x']", "line 1: roles: admin: 'DSN:x': no name begins with DSN:"),
        ("listen = ['\udcff']", "line 1: not UTF-8"),
        ("[policy]\nmemory_overcommit = 0.0", "line 2: policy.memory_overcommit: is not above 0"),
        ("[policy]\nmemory_reserved_mib = -1", "line 2: policy.memory_reserved_mib: is negative"),
        ("[policy]\n\nstorage = ['srv']", "line 3: policy.storage: 'srv' does not begin with /"),
        ("listen = ['foo']", "line 1: listen: 'foo': wanted HOST:PORT or unix:/path"),
        ("[policy\n", "line 1"),
    ],
)
def test_a_bad_file_is_named_with_its_field(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(BadSettings) as caught:
        settings(tmp_path, text)
    assert why in str(caught.value)
    assert str(tmp_path / "agent.toml") in str(caught.value)


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(BadSettings, match="no such file"):
        read_settings(Path("/nowhere/agent.toml"))
