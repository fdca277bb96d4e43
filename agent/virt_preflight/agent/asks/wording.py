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

# Longest that is read of one name. Linux' PATH_MAX is 4096: longer paths make a text unknown.
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
    # Features of a CPU, "a,b"; and those that are too many, where ht alone is another matter.
    "features": r"[\w.,-]{1,1024}",
    "extra": r"(?!ht(?:\n|\Z))[\w.,-]{1,1024}",
    # A port that is not libvirtd's: of its own TCP, of TLS, of SSH.
    "port": r"(?!(?:16509|16514|22)')[0-9]{1,5}",
    # A file that is no device of those that the kernel names by what they are for.
    "file": rf"/(?!dev/(?:tty|parport|input/|dri/|hwrng))[^\n]{{0,{_MOST}}}",
    # A file that is not about to be renamed.
    "lasting": rf"(?![^'\n]{{0,{_MOST}}}\.new')[^'\n]{{1,{_MOST}}}",
    # A device that QEMU does not migrate and that no check of its own looks for.
    "device": rf"(?![^\s]{{0,{_MOST}}}/(?:vhost-user-fs|vfio-ap|vfio-ccw|vfio-pci)\Z)"
    rf"[^\n]{{1,{_MOST}}}",
    # Of a guest, all but its CPU.
    "part": rf"(?!CPU )[^\n]{{1,{_MOST}}}",
    "text": rf"[^\n]{{1,{_MOST}}}",
    "rest": rf"[^\n]{{0,{_MOST}}}",
}

# What strerror(3) says most.
ABSENT = "No such file or directory"
DENIED = "Permission denied"
TAKEN = "Address already in use"
NOT_OURS = "Cannot assign requested address"

_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A check, and the texts in which libvirt or QEMU say what it looks for.

    `subject`, `wanted` and `found` are filled from the text: "bridge {name}".
    """

    check: str
    says: tuple[str, ...]
    # Who says it: "libvirt"; "-..." the log of a QEMU that ended, "-vnc" of that option;
    # "reason" why QEMU does not migrate; "command ..." a QEMU asked for that; "copy" of a
    # disk, "job" the migration itself.
    by: tuple[str, ...] = ("libvirt",)
    subject: str = ""
    wanted: str = ""
    found: str = ""
    # Checks of other faults that are told in the same words.
    alike: tuple[str, ...] = ()


def read(wording: Wording, speaker: str, words: str) -> Mapping[str, str] | None:
    """What is filled in, or None when it is not these words."""
    if not any(_is(speaker, one) for one in wording.by):
        return None
    for text in wording.says:
        # Most are told apart by their first words; only the others cost a pattern.
        if words.startswith(text.partition("{")[0]) and (match := pattern(text).fullmatch(words)):
            return match.groupdict()
    return None


def _is(speaker: str, one: str) -> bool:
    """`-blockdev` is each of its kinds, and `-` all that is said in QEMU's log."""
    return speaker == one or speaker.startswith("-" if one == "-" else f"{one} ")


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
