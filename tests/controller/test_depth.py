import pytest

from virt_preflight.controller.depth import LONGER_S, Depth, shallowest


@pytest.mark.parametrize(
    ("depths", "least"),
    [
        ([Depth.TRIAL], Depth.TRIAL),
        ([Depth.REHEARSAL, Depth.LIBVIRT, Depth.TRIAL], Depth.LIBVIRT),
        ([Depth.FACTS, None], None),
        ([], None),
    ],
)
def test_the_shallowest_asks_least(depths: list[Depth | None], least: Depth | None) -> None:
    assert shallowest(depths) is least


def test_the_deeper_the_longer_one_waits() -> None:
    waits = [LONGER_S[depth] for depth in Depth]
    assert waits == sorted(waits)
    assert LONGER_S[Depth.FACTS] == 0
