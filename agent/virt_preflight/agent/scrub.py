"""Takes out of a recording what tells whose it is, the same word everywhere for the same thing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from virt_preflight.agent.sources import SourceError
from virt_preflight.agent.sources.recording import Recording

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I)
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.I)
IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
SERIAL = re.compile(r"(?<=<serial>)[^<]+(?=</serial>)|(?<=name='serial'>)[^<]+")
# Addresses that mean the same everywhere.
COMMON = {
    "0.0.0.0",  # noqa: S104 - it is told, not listened on
    "127.0.0.1",
    "255.255.255.255",
    "00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff",
}


def scrubbed(recording: Recording, names: tuple[str, ...]) -> Recording:
    """Hosts' and guests' `names`, UUIDs, MAC and IPv4 addresses and serials are replaced."""
    swap = _swapper(names)
    return replace(
        recording,
        host=swap(recording.host),
        answers={
            tuple(swap(word) for word in asked): _swapped(answer, swap)
            for asked, answer in recording.answers.items()
        },
    )


def _swapper(names: tuple[str, ...]) -> Callable[[str], str]:
    new_by_old: dict[str, str] = {}

    def swap_kind(kind: str, make: Callable[[int], str]) -> Callable[[re.Match[str]], str]:
        def swap_one(match: re.Match[str]) -> str:
            old = match[0]
            if old.lower() in COMMON:
                return old
            count = sum(1 for key in new_by_old if key.startswith(kind))
            return new_by_old.setdefault(f"{kind} {old.lower()}", make(count + 1))

        return swap_one

    by_length = sorted({name for name in names if name}, key=len, reverse=True)
    name = re.compile(
        "|".join(rf"(?<![\w-]){re.escape(one)}(?![\w-])" for one in by_length) or r"(?!)"
    )
    rules: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
        (UUID, swap_kind("uuid", lambda n: f"00000000-0000-4000-8000-{n:012x}")),
        (MAC, swap_kind("mac", lambda n: f"52:54:00:00:{n >> 8 & 255:02x}:{n & 255:02x}")),
        (IPV4, swap_kind("ipv4", lambda n: f"192.0.2.{n % 256}")),
        (SERIAL, swap_kind("serial", lambda n: f"SERIAL{n:04}")),
        (name, swap_kind("name", lambda n: f"name-{n}")),
    )

    def swap(text: str) -> str:
        for pattern, new in rules:
            text = pattern.sub(new, text)
        return text

    return swap


def _swapped(answer: object, swap: Callable[[str], str]) -> Any:
    match answer:
        case str():
            return swap(answer)
        case SourceError():
            return type(answer)(swap(str(answer)))
        case tuple():
            return tuple(_swapped(part, swap) for part in answer)
        case _:
            # Numbers, stat(2) and the users that QEMU runs as tell nobody whose host it is.
            return answer
