"""What stands in deploy/ as an example is read by the programs, and says what they do."""

import re
from pathlib import Path

from virt_preflight.agent.settings import Settings, read_settings
from virt_preflight.controller import fleet as fleets
from virt_preflight.controller import settings
from virt_preflight.treaty.tls import ClientTls, Tls

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_agents_example_names_every_default() -> None:
    assert read_settings(DEPLOY / "agent.toml") == Settings()
    for key in Tls.__struct_fields__:
        assert f"{key} =" in (DEPLOY / "agent.toml").read_text(), key


def test_the_fleets_example_is_a_fleet_with_the_default_uris() -> None:
    fleet = fleets.read(DEPLOY / "fleet.toml")
    assert [host.name for host in fleet.hosts] == ["h1", "h2", "h3"]
    assert fleet.hosts[0].address == "h1:50551"
    assert fleet.uris == fleets.Uris()
    assert fleet.tls == ClientTls()
    for key in ClientTls.__struct_fields__:
        assert f"{key} =" in (DEPLOY / "fleet.toml").read_text(), key
    assert fleet.hosts[1].labels == (("rack", "r1"), ("storage", "ssd"))


def test_the_controllers_example_names_every_default() -> None:
    example = DEPLOY / "controller.toml"
    assert settings.read_settings(example) == settings.Settings()
    for kind in (settings.Settings, settings.Announced, settings.Limits, Tls):
        for key in kind.__struct_fields__:
            assert re.search(rf"^(# )?{key} =|^\[{key}\]", example.read_text(), re.MULTILINE), key
