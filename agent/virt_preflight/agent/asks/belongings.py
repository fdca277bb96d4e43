"""What of a guest's devices and files a stand-in may have: as they are, beside them, or not at all.

Pure. A file that is there already is opened as QEMU opens it for a guest that arrives, which
writes nothing and takes no lock. One that is not there would be made: the stand-in's is made
beside it and taken away again, so that the guest's own never comes to be half made.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid5

from lxml import etree

from virt_preflight.agent.xml import Element, attribute, text_of

HELD = "it would be taken from the host, or from whom has it"
STARTED = "another program would be started for it"
HEARD = "somebody else would hear of it"
GIVEN = "libvirt gives QEMU the file when the guest comes, and QEMU cannot open it before"
COPIED = "it is copied by the migration"
MADE = "it would be made, and stay"
LOCKED = "the guest that runs holds it, and this libvirt shows its Prepare phase to nobody"

# sockaddr_un.sun_path (unix(7)), with the NUL at its end.
SOCKET_PATH_AT_MOST = 107

CHARDEVS = ("serial", "parallel", "console", "channel", "redirdev")
# Backends that touch nothing but files and ports of this host.
QUIET_CHARDEVS = ("pty", "null", "vc", "stdio", "spicevmc", "spiceport", "qemu-vdagent")
KEPT_NICS = ("bridge", "network", "ethernet", "direct", "user", "server", "null")
KEPT_DISKS = ("file", "block", "network", "volume")
KEPT_GRAPHICS = ("vnc", "spice", "egl-headless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What of the host decides how a stand-in has to look there."""

    # QEMU's user and group there, as numbers.
    uid: int
    gid: int
    # Files that the guest names and that are there.
    present: frozenset[str] = frozenset()
    # Of these, those that QEMU could not open before libvirt made it their owner.
    shut: frozenset[str] = frozenset()
    # Why NICs cannot be plugged in for a trial, by their place among those of the guest that are
    # not passed through.
    unpluggable: Mapping[int, str] = field(default_factory=dict)
    # Security models of the host's libvirt that label files ("selinux").
    labelling: frozenset[str] = frozenset()
    # Targets of disks that the migration would copy: there is nothing yet to be opened.
    copied: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class Belongings:
    """What came of looking through them."""

    files: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    # The stand-in's paths and addresses, and the guest's own for each.
    own: dict[str, str] = field(default_factory=dict)


def files_of(root: Element) -> Iterator[tuple[str, bool]]:
    """Paths that QEMU opens for the guest, and whether to write: to be looked for on the host."""
    for disk in root.findall("devices/disk"):
        written = disk.find("readonly") is None and disk.get("device") != "cdrom"
        for depth, source in enumerate(_layers(disk)):
            if path := source.get("file"):
                yield path, written and depth == 0
    for path in _booted(root):
        yield path, False
    if path := _variables(root):
        yield path, True
    for element in _chardevs(root):
        if path := _logged(element):
            yield path, True
        if path := attribute(element, "log", "file"):
            yield path, True


def sorted_out(root: Element, *, name: str, setting: Setting) -> Belongings:
    """Go through all devices of the stand-in and change them."""
    kept = Belongings()
    devices = root.find("devices")
    if devices is not None:
        _nics(devices, name, setting, kept)
        for element in list(devices):
            if why := _unfit(element, setting):
                devices.remove(element)
                kept.left_out.append((called(element), why))
        for element in devices.findall("audio[@type='file']"):
            # A sound card needs the audio that it names: one that plays nowhere.
            for key in set(element.attrib) - {"id"}:
                del element.attrib[key]
            element.set("type", "none")
        for tpm in devices.findall("tpm/backend"):
            # State elsewhere than in the folder of the guest's own UUID is the guest's own.
            for source in tpm.findall("source"):
                tpm.remove(source)
        for number, element in enumerate(_chardevs(root)):
            _chardev(element, f"{name}-{number}", setting, kept)
        for number, element in enumerate(devices.iterfind("graphics")):
            _graphics(element, f"{name}-vnc{number}", kept)
    _firmware(root, name, setting, kept)
    return kept


def _unfit(element: Element, setting: Setting) -> str:
    """Why a stand-in must not have the device; empty when it may."""
    judge = UNFIT.get(str(element.tag))
    return judge(element, setting) if judge else ""


def _disk(disk: Element, setting: Setting) -> str:
    if disk.get("type", "file") not in KEPT_DISKS:
        return HELD
    if disk.find("transient") is not None:
        return MADE
    if attribute(disk, "target", "dev") in setting.copied:
        return COPIED
    if any(source.get("file") in setting.shut for source in _layers(disk)):
        return GIVEN
    return ""


def _layers(disk: Element) -> Iterator[Element]:
    """`<source>` of the image and of those that the XML names below it."""
    at: Element | None = disk
    while at is not None:
        source = at.find("source")
        if source is not None:
            yield source
        at = at.find("backingStore")


def _chardev_unfit(element: Element, _: Setting) -> str:
    kind = element.get("type", "")
    if kind in (*QUIET_CHARDEVS, "file"):
        return ""
    listens = all(source.get("mode") == "bind" for source in element.findall("source"))
    if kind in ("unix", "tcp"):
        return "" if listens else HEARD
    return HELD


def _rng(element: Element, _: Setting) -> str:
    return "" if attribute(element, "backend", "model") in ("random", "builtin") else HEARD


def _memory(element: Element, _: Setting) -> str:
    return f"{element.get('model', '')}: a stand-in has 32 MiB of memory in all".lstrip(": ")


UNFIT: Mapping[str, Callable[[Element, Setting], str]] = {
    "disk": _disk,
    "rng": _rng,
    "memory": _memory,
    "hostdev": lambda _, __: HELD,
    "lease": lambda _, __: HELD,
    "shmem": lambda _, __: MADE,
    "pstore": lambda _, __: MADE,
    "smartcard": lambda one, _: HELD if one.get("mode") != "passthrough" else HEARD,
    "input": lambda one, _: HELD if one.get("type") in ("passthrough", "evdev") else "",
    "tpm": lambda one, _: "" if attribute(one, "backend", "type") == "emulator" else HELD,
    "graphics": lambda one, _: "" if one.get("type") in KEPT_GRAPHICS else STARTED,
    "filesystem": lambda one, _: STARTED if attribute(one, "driver", "type") == "virtiofs" else "",
    **dict.fromkeys(CHARDEVS, _chardev_unfit),
}


def called(element: Element) -> str:
    """How an operator finds it in the XML."""
    tag = str(element.tag)
    for path, name in (
        ("target", "dev"),
        ("target", "name"),
        ("mac", "address"),
        ("target", "dir"),
    ):
        if found := attribute(element, path, name):
            return f"{tag} {found}"
    return f"{tag} {element.get('type') or element.get('model') or ''}".strip()


# ------------------------------------------------------------------------------------------ NICs


def _nics(devices: Element, name: str, setting: Setting, kept: Belongings) -> None:
    passed_through = devices.findall("interface[@type='hostdev']")
    for nic in passed_through:
        devices.remove(nic)
        kept.left_out.append((called(nic), HELD))
    for number, nic in enumerate(devices.findall("interface")):
        why = _nic_unfit(nic) or setting.unpluggable.get(number, "")
        if why:
            devices.remove(nic)
            kept.left_out.append((called(nic), why))
            continue
        # A bridge with an automatic MTU would take over the guest's for the moment.
        for tag in ("mtu", "script", "downscript"):
            for element in nic.findall(tag):
                nic.remove(element)
                if tag != "mtu":
                    kept.left_out.append((f"{tag} of {called(nic)}", STARTED))
        address = nic.find("mac")
        if address is None:
            address = etree.SubElement(nic, "mac")
        mac = _mac(name, number)
        if own := address.get("address"):
            kept.own[mac] = own
            # The host's end of the tap (virNetDevTapCreateInBridgePort, util/virnetdevtap.c).
            kept.own[f"fe{mac[2:]}"] = f"fe{own[2:]}"
        address.attrib.clear()
        address.set("address", mac)


def _nic_unfit(nic: Element) -> str:
    kind = nic.get("type", "")
    if kind not in KEPT_NICS:
        return HELD if kind == "vdpa" else HEARD
    if nic.find("virtualport") is not None:
        return HEARD
    if attribute(nic, "source", "mode") == "passthrough":
        return HELD
    if attribute(nic, "target", "managed") == "no":
        return HELD
    return STARTED if attribute(nic, "backend", "type") == "passt" else ""


def _mac(name: str, number: int) -> str:
    """Of KVM's own block of addresses, another for each stand-in."""
    digits = uuid5(NAMESPACE_URL, f"{name} {number}").hex
    return f"52:54:00:{digits[:2]}:{digits[2:4]}:{digits[4:6]}"


# ----------------------------------------------------------------------------------------- files


def _chardevs(root: Element) -> Iterator[Element]:
    for tag in CHARDEVS:
        yield from root.iterfind(f"devices/{tag}")


def _logged(element: Element) -> str:
    return (attribute(element, "source", "path") or "") if element.get("type") == "file" else ""


def _chardev(element: Element, name: str, setting: Setting, kept: Belongings) -> None:
    logs = [(element.find("log"), "file")]
    if element.get("type") == "file":
        logs.append((element.find("source"), "path"))
    for log, key in logs:
        if log is None:
            continue
        # Otherwise what a running guest wrote there is cut off when QEMU opens it.
        log.set("append", "on")
        path = log.get(key)
        if path and path not in setting.present:
            log.set(key, _beside(path, f"{name}.log", kept))
    if element.get("type") == "unix":
        for source in element.findall("source"):
            # QEMU takes away what is at the path before it listens there: a running guest's.
            _socket(source, "path", f"{name}.sock", kept)


def _graphics(element: Element, name: str, kept: Belongings) -> None:
    _socket(element, "socket", f"{name}.sock", kept)
    for number, listen in enumerate(element.findall("listen[@type='socket']")):
        _socket(listen, "socket", f"{name}-{number}.sock", kept)


def _socket(element: Element, key: str, name: str, kept: Belongings) -> None:
    path = element.get(key)
    if not path:
        return
    beside = _beside(path, name, kept)
    if len(beside) > SOCKET_PATH_AT_MOST >= len(path):
        # There is no room for another name: the folder is not tried, libvirt's own is.
        kept.files.remove(beside)
        del element.attrib[key]
        return
    element.set(key, beside)


def _beside(path: str, name: str, kept: Belongings) -> str:
    beside = posixpath.join(posixpath.dirname(path), name)
    kept.files.append(beside)
    kept.own[beside] = path
    return beside


# -------------------------------------------------------------------------------------- firmware


def _booted(root: Element) -> Iterator[str]:
    for tag in ("kernel", "initrd", "dtb", "acpi/table"):
        for element in root.findall(f"os/{tag}"):
            if path := (element.text or "").strip():
                yield path


def _variables(root: Element) -> str:
    return text_of(root, "os/nvram") or attribute(root, "os/nvram/source", "file") or ""


def _firmware(root: Element, name: str, setting: Setting, kept: Belongings) -> None:
    if setting.shut.intersection(_booted(root)):
        system = root.find("os")
        assert system is not None, "its files were found in it"
        for tag in ("kernel", "initrd", "dtb", "cmdline", "acpi"):
            for element in system.findall(tag):
                system.remove(element)
                if tag != "cmdline":
                    kept.left_out.append((tag, GIVEN))
    path = _variables(root)
    if path and (path not in setting.present or path in setting.shut):
        nvram = root.find("os/nvram")
        assert nvram is not None, "its path was found in it"
        beside = _beside(path, f"{name}_VARS.fd", kept)
        source = nvram.find("source")
        if source is not None:
            source.set("file", beside)
        else:
            nvram.text = beside
