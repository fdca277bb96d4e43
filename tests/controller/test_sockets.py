import resource
import sys
from subprocess import run

import pytest

from virt_preflight.controller.sockets import OURS, Room, make_room, room


@pytest.mark.parametrize(
    ("files", "hosts", "fits"),
    [
        (OURS + 1000, 1000, Room(kept=1000, in_flight=256)),
        (OURS + 999, 1000, Room(kept=743, in_flight=256)),
        (OURS + 256, 1000, Room(kept=0, in_flight=256)),
        (OURS + 100, 1000, Room(kept=0, in_flight=100)),
        (OURS + 100, 50, Room(kept=50, in_flight=256)),
        (OURS, 1000, Room(kept=0, in_flight=1)),
        (3, 2, Room(kept=0, in_flight=1)),
    ],
)
def test_what_fits_into_so_many_open_files(files: int, hosts: int, fits: Room) -> None:
    assert room(files, hosts, in_flight=256) == fits


def test_a_small_fleet_leaves_the_limit_as_it_is() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert make_room(2, in_flight=256) == Room(kept=2, in_flight=256)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize(
    ("hosts", "limit", "fits"),
    [
        (300, 300 + OURS, Room(kept=300, in_flight=16)),
        (1000, 400, Room(kept=400 - OURS - 16, in_flight=16)),
    ],
)
def test_the_limit_is_raised_as_far_as_the_fleet_needs_and_the_system_lets_us(
    hosts: int, limit: int, fits: Room
) -> None:
    # In a process of its own: a hard limit that was lowered cannot be raised again.
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 400))
from virt_preflight.controller.sockets import make_room
print(make_room({hosts}, in_flight=16))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    ended = run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{fits!r}\n({limit}, 400)\n"
