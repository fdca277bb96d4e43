"""The example scheduler places guests through a controller on hosts that were recorded."""

import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

from tests.replayed import RECORDINGS
from tests.service.controllers import controller, missing
from tests.service.recorded import recorded_fleet
from virt_preflight.controller import fleet as fleets
from virt_preflight.controller.client import Controller
from virt_preflight.controller.question import GuestFile

SCHEDULER = Path(__file__).parents[2] / "deploy/examples/scheduler.py"
DB1 = (RECORDINGS / "guests/db1.xml").read_text()
# What db1 wants only hosts like these two have: h4 lacks CPU features, h5 and h6 the bridge, and
# db1's own disk may be written on none but them; on h1 it runs.
CAN = {"h2", "h3"}


def guest_files(place: Path, guests: int) -> list[str]:
    """Guests like db1, each with a name and a UUID of its own."""
    files = []
    for number in range(guests):
        file = place / f"app-{number:03}.xml"
        own = str(uuid.uuid5(uuid.NAMESPACE_DNS, file.stem))
        file.write_text(
            DB1.replace("<name>db1</name>", f"<name>{file.stem}</name>").replace(
                "4af71f63-19eb-5a22-88a0-a7ab7e887030", own
            )
        )
        files.append(str(file))
    return files


def schedule(address: str, files: list[str], within_s: float) -> list[list[str]]:
    ended = subprocess.run(
        [sys.executable, SCHEDULER, "--server", address, "--within", str(within_s), *files],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.stderr == ""
    return [line.split("\t") for line in ended.stdout.splitlines()]


def test_a_hundred_guests_find_a_place_on_two_hundred_recorded_hosts(tmp_path: Path) -> None:
    files = guest_files(tmp_path, 100)
    with recorded_fleet(200, processes=2) as file, controller(fleets.read(file)) as address:
        placed = schedule(address, files, within_s=120)
        with Controller(address) as asking:
            guest = GuestFile(name="app", xml=Path(files[0]).read_bytes())
            silent = missing(asking.rank(guest, within_s=60))
    # Those where it runs cannot be told of from a recording, and nobody else is silent.
    assert {(host.partition("-")[0], why[:15]) for host, why in silent.items()} == {
        ("h1", "could not tell:")
    }
    assert [name for name, _, _ in placed] == [Path(file).stem for file in files]
    # Whoever had not answered in time would not have been chosen among: each ranking was whole.
    assert {why for _, _, why in placed} == {f"{len(silent)} of 200 hosts could not say"}
    guests_by_host = Counter(host for _, host, _ in placed)
    # Spread over all that can take them, since each promise leaves its host with less.
    assert {host.partition("-")[0] for host in guests_by_host} == CAN
    assert len(guests_by_host) == 67
    assert max(guests_by_host.values()) - min(guests_by_host.values()) <= 1


def test_a_guest_that_no_host_can_take_is_told_why(tmp_path: Path) -> None:
    (file,) = guest_files(tmp_path, 1)
    feature = "<feature policy='require' name='{}'/>"
    more = feature.format("x2apic") + feature.format("avx512-fp16")
    Path(file).write_text(DB1.replace(feature.format("x2apic"), more))
    with recorded_fleet(6) as fleet, controller(fleets.read(fleet)) as address:
        first, second = schedule(address, [file, "db9"], 60)
    (guest, host, why), (unknown, nowhere, not_found) = first, second
    assert (guest, host) == ("app-000", "-")
    assert why.startswith("none of 6 hosts: 6 × missing CPU features")
    assert (unknown, nowhere) == ("db9", "-")
    assert not_found == "no host has a guest db9"


def test_without_guests_it_says_how_to_call_it() -> None:
    ended = subprocess.run(
        [sys.executable, SCHEDULER, "--server", "unix:/nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "GUEST" in ended.stderr
