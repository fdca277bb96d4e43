"""A rehearsal's XML: as little rewritten as keeps others' files whole.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from virt_preflight.agent.xml import Element, parse, text_form

CHARDEVS = ("serial", "parallel", "console", "channel", "smartcard", "rng/backend", "redirdev")
# Of a disk's <source>, what names the file or the device.
PLACES = ("file", "dev")


def rewritten(xml: bytes, keep_owner_of: Collection[str]) -> bytes:
    """Begin's XML with nothing changed but what would touch others' files.

    Log files are appended to: libvirt empties them otherwise, and they may be the running guest's.
    Disks of these paths keep their owner: libvirt would hand them to root when it cancels, and the
    guest still runs. Whether QEMU may open them without was looked up before.
    """
    root = parse(xml)
    for kind in CHARDEVS:
        for device in root.findall(f"devices/{kind}"):
            if device.get("type") == "file":
                _appended(device.findall("source"))
            _appended(device.findall("log"))
    for source in root.findall("devices/disk/source"):
        if any(source.get(place) in keep_owner_of for place in PLACES):
            _owner_kept(source)
    return text_form(root)


def _appended(files: list[Element]) -> None:
    for file in files:
        file.set("append", "on")


def _owner_kept(source: Element) -> None:
    for label in source.findall("seclabel"):
        if label.get("model", "dac") == "dac":
            source.remove(label)
    label = source.makeelement("seclabel", {"model": "dac", "relabel": "no"})
    source.append(label)
