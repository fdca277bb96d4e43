"""What libvirt silently dropped: the XML that was sent, held against the XML that it made of it.

An older libvirt passes over elements and attributes that it does not know, and the guest arrives
without them: a queue size, page_per_vq, and then the stream does not fit the device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from virt_preflight.agent.families.libvirt import USUAL_BY_PATH
from virt_preflight.agent.xml import BadXml, Element, parse

# What libvirt takes out or puts in another place by its own rules, not because it knows it not:
# the CPU is the cookie's, labels are the stand-in's, a medium may be dropped (disks.dropped), a
# serial console stands for the port that it is.
NOT_COMPARED = (
    "cpu",
    "seclabel",
    "devices/console",
    "devices/disk/source",
    "devices/disk/backingStore",
    "resource",
)


def lost(sent: bytes, seen: bytes) -> tuple[str, ...]:
    """Paths of elements and of attributes that are there less often than they were sent."""
    try:
        before, after = Counter(_places(parse(sent))), Counter(_places(parse(seen)))
    except BadXml:
        return ()
    gone = sorted(place for place, count in before.items() if after[place] < count)
    # With an element go its attributes and all in it.
    return tuple(
        place for place in gone if not any(place.startswith(f"{above}/") for above in gone)
    )


def _places(element: Element, above: str = "") -> Iterator[str]:
    for child in element:
        place = above + str(child.tag)
        if place in NOT_COMPARED:
            continue
        yield place
        for name, value in ((str(key), str(text)) for key, text in child.attrib.items()):
            if USUAL_BY_PATH.get(f"{place}/@{name}") != value:
                yield f"{place}/@{name}"
        yield from _places(child, f"{place}/")
