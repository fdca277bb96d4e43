"""Amounts in the units in which operators think."""

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def memory(kib: int) -> str:
    """`8 GiB`, `1.5 GiB`, `96 MiB`. Rounded down: never more than there is."""
    size, unit = kib, 0
    while abs(size) >= 1024 and unit < len(UNITS) - 1:
        size, unit = int(size / 1024), unit + 1
    exact = kib / 1024**unit
    tenths = int(exact * 10) / 10
    shown = f"{tenths:.1f}" if abs(exact) < 10 and tenths != int(tenths) else f"{size}"
    return f"{shown} {UNITS[unit]}"


def seconds(milliseconds: int) -> str:
    """`0.21 s`, `5.1 s`, `72 s`."""
    took = milliseconds / 1000
    return f"{took:.2f} s" if took < 1 else f"{took:.1f} s" if took < 10 else f"{took:.0f} s"


def count(number: int, thing: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
