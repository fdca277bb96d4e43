import pytest

from virt_preflight.controller.render.amounts import count, memory, seconds

GIB = 1024 * 1024


@pytest.mark.parametrize(
    ("kib", "shown"),
    [
        (0, "0 KiB"),
        (1023, "1023 KiB"),
        (96 * 1024, "96 MiB"),
        (8 * GIB, "8 GiB"),
        (GIB + GIB // 2, "1.5 GiB"),
        (GIB * 212 + 900_000, "212 GiB"),
        (8 * GIB - 1, "7.9 GiB"),
        (GIB * 1024 * 3, "3 TiB"),
        (-12 * GIB, "-12 GiB"),
        (2**63, "8388608 PiB"),
    ],
)
def test_memory_is_never_more_than_there_is(kib: int, shown: str) -> None:
    assert memory(kib) == shown


@pytest.mark.parametrize(
    ("milliseconds", "shown"), [(0, "0.00 s"), (84, "0.08 s"), (5120, "5.1 s"), (72_400, "72 s")]
)
def test_times_are_as_exact_as_anyone_reads_them(milliseconds: int, shown: str) -> None:
    assert seconds(milliseconds) == shown


def test_one_is_not_many() -> None:
    assert (count(1, "host"), count(0, "host"), count(2, "host")) == (
        "1 host",
        "0 hosts",
        "2 hosts",
    )
