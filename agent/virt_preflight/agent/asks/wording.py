"""An error text as libvirt's source has it, with names for what is filled in, made a pattern.

`Cannot get interface MTU on '{name}': {why:errno}` reads a name between quotes and what
strerror(3) says. What is filled in comes from guests and files, so it is never trusted to end
where it should: a name between quotes has no such quote, nothing spans lines, all is bounded, and
the whole text has to match. A name that breaks these rules makes the text one that is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

# Longest that is read of one name: PATH_MAX is 4096, but libvirt before 10 cuts its messages at
# 1024 bytes (VIR_ERROR_MAX_LENGTH, util/virerror.c).
_MOST = 1024

_PATTERN_BY_KIND: Mapping[str, str] = {
    "": rf"[^\s'\"]{{1,{_MOST}}}",
    "path": rf"/[^\n]{{0,{_MOST}}}",
    "number": r"-?[0-9]{1,20}",
    "hex": r"(?:0x)?[0-9a-f]{1,20}",
    "uuid": r"[0-9a-fA-F-]{32,36}",
    "pci": r"[0-9a-f]{1,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]",
    # strerror(3): one short sentence without quotes and colons.
    "errno": r"[A-Z][^\n:'\"]{2,80}",
    "text": rf"[^\n]{{1,{_MOST}}}",
    "rest": rf"[^\n]{{0,{_MOST}}}",
}

_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A check, and the texts in which libvirt or QEMU say what it looks for.

    `subject`, `wanted` and `found` are filled from the text: "bridge {name}".
    """

    check: str
    says: tuple[str, ...]
    # Who says it: "libvirt"; "-..." the log of a QEMU that ended, "-vnc" of that option;
    # "reason" why QEMU does not migrate; "command ..." a QEMU asked for that; "copy" of a disk.
    by: tuple[str, ...] = ("libvirt",)
    subject: str = ""
    wanted: str = ""
    found: str = ""


def read(wording: Wording, speaker: str, words: str) -> Mapping[str, str] | None:
    """What is filled in, or None when it is not these words."""
    if not speaker.startswith(wording.by):
        return None
    for text in wording.says:
        # Most are told apart by their first words; only the others cost a pattern.
        if words.startswith(text.partition("{")[0]) and (match := pattern(text).fullmatch(words)):
            return match.groupdict()
    return None


@lru_cache(maxsize=1024)
def pattern(text: str) -> re.Pattern[str]:
    """The text as a regular expression, each name in it a group."""
    parts: list[str] = []
    done = 0
    for place in _PLACE.finditer(text):
        parts.append(re.escape(text[done : place.start()]))
        before = text[place.start() - 1 : place.start()]
        kind = place[2] or ""
        inside = _PATTERN_BY_KIND[kind]
        if not kind and before in ("'", '"'):
            inside = rf"[^{before}\n]{{1,{_MOST}}}"
        parts.append(f"(?P<{place[1]}>{inside})")
        done = place.end()
    parts.append(re.escape(text[done:]))
    return re.compile("".join(parts))
