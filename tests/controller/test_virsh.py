import shlex

import pytest

from tests.controller.samples import UUID
from virt_preflight.controller.fleet import Uris
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.virsh import migrate_command

LIVE = MigrationOptions(live=True, p2p=True)


def command(
    options: MigrationOptions = LIVE, *, name: str = "db1", uuid: str = UUID, to: str = "h2"
) -> str | None:
    return migrate_command(
        uris=Uris(), source="h1", destination=to, name=name, uuid=uuid, options=options
    )


def test_the_plain_move() -> None:
    assert command() == (
        "virsh -c qemu+ssh://h1/system migrate --live --p2p db1 qemu+tls://h2/system"
    )


def test_every_option_that_was_asked_about_is_in_the_command() -> None:
    options = MigrationOptions(
        live=True,
        p2p=True,
        persistent=True,
        copy_storage_all=True,
        migrate_disks=("vda", "vdb"),
        dname="db2",
        xml=b"<domain/>",
        xml_file="my new.xml",
        migrateuri="tcp://10.0.0.2",
        desturi="qemu+tcp://h2/system",
    )
    assert command(options) == (
        "virsh -c qemu+ssh://h1/system migrate --live --p2p --persistent --copy-storage-all"
        " --migrate-disks vda,vdb --dname db2 --xml 'my new.xml' --migrateuri tcp://10.0.0.2"
        " db1 qemu+tcp://h2/system"
    )


def test_xml_from_standard_input_is_read_from_there_by_virsh_too() -> None:
    options = MigrationOptions(live=True, xml=b"<domain/>", xml_file="-")
    assert "--xml /dev/stdin" in (command(options) or "")


def test_a_value_with_a_leading_dash_is_no_option() -> None:
    assert "--dname=-x" in (command(MigrationOptions(dname="-x")) or "")


@pytest.mark.parametrize("name", ["12", "-rf", "a\x1b[2Jb", ""])
def test_a_name_that_virsh_or_a_terminal_would_misread_gives_way_to_the_uuid(name: str) -> None:
    assert (command(name=name) or "").split()[-2] == UUID


@pytest.mark.parametrize("uuid", ["", "$(reboot)", "--help"])
def test_a_guest_that_cannot_be_named_safely_gets_no_command(uuid: str) -> None:
    assert command(name="7", uuid=uuid) is None


def test_a_name_can_do_nothing_to_the_shell() -> None:
    hostile = "x; rm -rf / #'$(id)`"
    words = shlex.split(command(name=hostile) or "")
    assert words[-2] == hostile


def test_an_ipv6_host_goes_into_brackets() -> None:
    assert (command(to="fd00::2") or "").endswith(" 'qemu+tls://[fd00::2]/system'")
