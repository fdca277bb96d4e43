"""The XML given for the destination beside the one that the source would send by itself.

Before it lets a guest go, libvirt compares the two (virDomainDefCheckABIStabilityFlags,
conf/domain_conf.c, with qemuDomainABIStabilityCheck). What it surely does not compare, and what
does not reach the guest either, is taken out of both here; what is left must be alike. Each part
that is taken out was changed in real migrations with libvirt 9.0 and 11.3. A value is taken out
only when it is one that libvirt accepts: whether the host can provide it is for the checks of the
destination, which look at the XML as it is given.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, look
from virt_preflight.agent.families.options.guest import DestinationXml
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.sources import Source
from virt_preflight.agent.xml import BadXml, Element, attribute, bitmap, kib, parse, text_of

FORMATS = frozenset({"raw", "qcow2"})
# With all of them QEMU tells the guest of a cache that it may flush; with writethrough and
# directsync of none.
CACHES = frozenset({"default", "none", "writeback", "unsafe"})
STARTUPS = frozenset({"mandatory", "optional"})
LIFECYCLES = frozenset({"destroy", "restart"})
LOCAL = {"file": "file", "block": "dev"}
NUMA_MODES = frozenset({"strict", "preferred", "interleave"})
PLACE = re.compile(r"/[^\n]*")
TAP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
LISTEN = re.compile(r"[A-Za-z0-9.:-]{1,255}")
USUAL_PAGE_KIB = 2048
SHOWN_AT_MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SentXml:
    """What the source would send of the guest without --xml."""

    root: Element


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first place where two documents are not alike, and what stands there in each."""

    path: str
    guest: str
    given: str


@look(Pace.MOVING)
def sent_xml(source: Source, domain: Domain, xml: DestinationXml) -> SentXml | None:
    """libvirt's own migratable XML of it; None when what is given is no domain XML."""
    if xml.root is None:
        return None
    return SentXml(root=parse(source.libvirt("migratable-xml", domain.uuid)))


def another_cpu(sent: Element, given: Element) -> Iterator[tuple[str, str, str]]:
    """Name, guest's and given value of what both say of the CPU and libvirt wants to be alike."""
    mine, theirs = sent.find("cpu"), given.find("cpu")
    if mine is None or theirs is None:
        return
    for name in ("mode", "check"):
        here, there = mine.get(name), theirs.get(name)
        if here and there and here != there:
            yield name, here, there


def difference(sent: Element, given: Element, options: MigrationOptions) -> Difference | None:
    """The first one among the parts that may not surely change."""
    return _difference(_bound(sent, options), _bound(given, options), "")


# ----------------------------------------------------------- what may change is taken out


def _bound(root: Element, options: MigrationOptions) -> Element:
    """A copy without what may surely change."""
    bound = deepcopy(root)
    # What only a running guest has is not read from XML that is to be started
    # (VIR_DOMAIN_DEF_PARSE_INACTIVE).
    bound.attrib.pop("id", "")
    for element in list(bound.iter("alias")):
        if not element.get("name", "").startswith("ua-"):
            _remove(element)
    _words(bound)
    _vcpus(bound)
    if not options.postcopy and _memory_has_one_name(bound):
        _huge_pages(bound)
    if _memory_has_one_name(bound):
        _numatune(bound)
    _seclabels(bound)
    for path, taken_out in DEVICES:
        for element in bound.findall(f"devices/{path}"):
            taken_out(element)
    return bound


def _remove(element: Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _empty(element: Element) -> bool:
    return len(element) == 0 and not element.attrib


def _words(root: Element) -> None:
    """Names and notes, memory in its own units, and what to do when the guest stops."""
    for tag in ("description", "metadata"):
        for element in root.findall(tag):
            root.remove(element)
    for element in root.findall("title"):
        if "\n" not in (element.text or ""):
            root.remove(element)
    for element in root.findall("memory"):
        if (size_kib := _kib(element)) is not None:
            element.text = str(size_kib)
            element.set("unit", "KiB")
    # The guest's own is put in its place (qemuDomainMigratableDefCheckABIStability).
    for element in root.findall("currentMemory"):
        if _kib(element) is not None:
            root.remove(element)
    actions = {tag: root.findall(tag) for tag in ("on_poweroff", "on_reboot", "on_crash")}
    chosen = {tag: text_of(root, tag) for tag in actions}
    # QEMU cannot be told to do both, and libvirt says so.
    if (chosen["on_poweroff"], chosen["on_reboot"]) != ("restart", "destroy"):
        for tag, elements in actions.items():
            for element in elements:
                if len(elements) == 1 and chosen[tag] in LIFECYCLES:
                    root.remove(element)


def _kib(element: Element) -> int | None:
    try:
        return kib(element)
    except BadXml:
        return None


def _set(text: str | None) -> frozenset[int]:
    """Of `cpuset` and `nodeset`; empty when it is none."""
    try:
        return bitmap(text or "")
    except BadXml:
        return frozenset()


def _vcpus(root: Element) -> None:
    """Where vCPUs and threads of QEMU may run."""
    for element in root.findall("vcpu"):
        if element.get("placement") in ("static", "auto"):
            del element.attrib["placement"]
        if _set(element.get("cpuset")):
            del element.attrib["cpuset"]
    tune = root.find("cputune")
    if tune is None:
        return
    threads = {str(number + 1) for number in range(_count(root, "iothreads"))}
    threads |= {element.get("id", "") for element in root.iterfind("iothreadids/iothread")}
    vcpus = {str(number) for number in range(_count(root, "vcpu"))}
    for tag, name, allowed in (
        ("vcpupin", "vcpu", vcpus),
        ("iothreadpin", "iothread", threads),
        ("emulatorpin", "", {""}),
    ):
        pins = tune.findall(tag)
        named = [pin.get(name, "") if name else "" for pin in pins]
        attributes = {name, "cpuset"} - {""}
        if (
            len(set(named)) == len(named)
            and set(named) <= allowed
            and all(set(pin.keys()) == attributes and _set(pin.get("cpuset")) for pin in pins)
        ):
            for pin in pins:
                tune.remove(pin)
    if _empty(tune):
        root.remove(tune)


def _count(root: Element, path: str) -> int:
    text = text_of(root, path) or "0"
    return int(text) if re.fullmatch(r"\d{1,4}", text, re.ASCII) else 0


def _memory_has_one_name(root: Element) -> bool:
    """Whether the guest's memory goes by the same names in the stream whatever it is backed by.

    For machines up to 5.0 libvirt gives QEMU cells without memory backends, unless one of them is
    bound or in huge pages, and then they have other names (qemuBuildNumaCommandLine).
    """
    if root.find("cpu/numa") is None:
        return True
    machine = attribute(root, "os/type", "machine") or ""
    version = re.search(r"-(\d+)\.(\d+)$", machine)
    return version is not None and (int(version[1]), int(version[2])) > (5, 0)


def _huge_pages(root: Element) -> None:
    """Of one size for all of the guest. With --postcopy both sides must have the same."""
    backing = root.find("memoryBacking")
    if backing is None:
        return
    pages = backing.findall("hugepages")
    sizes = [size for element in pages for size in element]
    if (
        len(pages) <= 1
        and len(sizes) <= 1
        and all(
            size.tag == "page" and set(size.keys()) <= {"size", "unit"} and _page_kib(size)
            for size in sizes
        )
        and all(_in_whole_pages(root, _page_kib(size)) for size in sizes or pages)
        and attribute(backing, "source", "type") != "anonymous"
        and backing.find("allocation") is None
    ):
        for element in pages:
            backing.remove(element)
    if _empty(backing):
        root.remove(backing)


def _page_kib(page: Element) -> int:
    """Of `<page>`; of `<hugepages>` itself the size that hosts have by default."""
    if page.tag == "hugepages":
        return USUAL_PAGE_KIB
    try:
        return kib(page, "size")
    except BadXml:
        return 0


def _in_whole_pages(root: Element, page_kib: int) -> bool:
    """QEMU 10 refuses memory that ends within a page: "memory size must be multiple of 2 MiB"."""
    cells = root.findall("cpu/numa/cell[@memory]")
    try:
        sizes = [kib(cell, "memory") for cell in cells] or [kib(root.findall("memory")[0])]
    except (BadXml, IndexError):
        return False
    return all(size_kib % page_kib == 0 for size_kib in sizes)


def _numatune(root: Element) -> None:
    """On which of the host's cells the memory is to be."""
    tunes = root.findall("numatune")
    if len(tunes) != 1:
        return
    cells = {
        cell.get("id", str(number)) for number, cell in enumerate(root.iterfind("cpu/numa/cell"))
    }
    named = [element.get("cellid", "") for element in tunes[0].iterfind("memnode")]
    whole = tunes[0].findall("memory")
    if (
        len(whole) + len(named) == len(tunes[0])
        and len(whole) <= 1
        and len(set(named)) == len(named)
        and set(named) <= cells
        and all(_bound_to_cells(element) for element in tunes[0])
    ):
        root.remove(tunes[0])


def _bound_to_cells(element: Element) -> bool:
    cells = _set(element.get("nodeset"))
    mode = element.get("mode", "strict")
    known = {"mode", "nodeset", "cellid" if element.tag == "memnode" else "placement"}
    return (
        bool(cells)
        and set(element.keys()) <= known
        and element.get("placement", "static") == "static"
        and mode in NUMA_MODES
        and (mode != "preferred" or len(cells) == 1)
    )


def _seclabels(root: Element) -> None:
    """Labels that libvirt makes up anew on each host."""
    labels = root.findall("seclabel")
    models = Counter(label.get("model", "") for label in labels)
    for label in labels:
        if (
            label.get("type") == "dynamic"
            and label.get("relabel", "yes") == "yes"
            and models[label.get("model", "")] == 1
            and label.find("baselabel") is None
        ):
            root.remove(label)


def _emulator(emulator: Element) -> None:
    if PLACE.fullmatch((emulator.text or "").strip()) and _empty(emulator):
        _remove(emulator)


def _audio(audio: Element) -> None:
    """The one that libvirt adds by itself (qemuDomainDefClearDefaultAudioBackend)."""
    if sorted(audio.items()) == [("id", "1"), ("type", "none")] and len(audio) == 0:
        _remove(audio)


def _disk(disk: Element) -> None:
    """Where the content is, in what format, and how it is read."""
    drivers = disk.findall("driver")
    if len(drivers) == 1:
        driver = drivers[0]
        if driver.get("type") in FORMATS:
            del driver.attrib["type"]
        # QEMU wants cache=none for io=native.
        fast = driver.get("io") == "native" and driver.get("cache") == "none"
        if fast or driver.get("io") == "threads":
            del driver.attrib["io"]
        if driver.get("cache") in CACHES and driver.get("io") is None:
            del driver.attrib["cache"]
    sources = disk.findall("source")
    if len(sources) == 1 and _local(disk, sources[0]) and disk.get("device") != "lun":
        disk.remove(sources[0])
        disk.set("type", "file or block")
    stores = disk.findall("backingStore")
    if len(stores) == 1 and _chain(stores[0]):
        disk.remove(stores[0])


def _local(owner: Element, source: Element) -> bool:
    """A file or a block device with nothing more to it."""
    name = LOCAL.get(owner.get("type", ""))
    return (
        name is not None
        and len(source) == 0
        and set(source.keys()) <= {name, "startupPolicy", "index"}
        and PLACE.fullmatch(source.get(name, "")) is not None
        and source.get("startupPolicy", "optional") in STARTUPS
    )


def _chain(store: Element) -> bool:
    """Backing files as libvirt lists them, down to the end."""
    if _empty(store):
        return True
    parts = {part.tag: part for part in store}
    return (
        len(parts) == len(store)
        and parts.keys() <= {"format", "source", "backingStore"}
        and {"format", "source"} <= parts.keys()
        and set(store.keys()) <= {"type", "index"}
        and parts["format"].get("type") in FORMATS
        and len(parts["format"]) == 0
        and _local(store, parts["source"])
        and ("backingStore" not in parts or _chain(parts["backingStore"]))
    )


def _interface(interface: Element) -> None:
    """What the NIC is plugged into, and the name of its link on the host.

    From a bridge to a network of libvirt and back: QEMU gets a tap device of each.
    """
    sources = interface.findall("source")
    if len(sources) == 1 and len(sources[0]) == 0:
        source = sources[0]
        match interface.get("type"):
            case "bridge":
                known, plain = {"bridge"}, bool(source.get("bridge"))
            case "network":
                # The last two are those of a running guest.
                known = {"network", "portgroup", "portid", "bridge"}
                plain = bool(source.get("network"))
            case _:
                known, plain = set(), False
        if plain and set(source.keys()) <= known:
            interface.remove(source)
            interface.set("type", "bridge or network")
    for target in interface.findall("target"):
        if set(target.keys()) == {"dev"} and TAP_NAME.fullmatch(target.get("dev", "")):
            interface.remove(target)


def _graphics(graphics: Element) -> None:
    """Where to listen, and the password."""
    kind = graphics.get("type")
    if kind not in ("vnc", "spice"):
        return
    ports = {name: graphics.get(name) for name in ("port", "tlsPort") if name in graphics.attrib}
    chosen = {name: port for name, port in ports.items() if _port(port)}
    automatic = graphics.get("autoport") == "yes"
    if (automatic or (graphics.get("autoport") in (None, "no") and "port" in chosen)) and all(
        name in chosen or port == "-1" for name, port in ports.items()
    ):
        for name in ("port", "tlsPort", "autoport"):
            graphics.attrib.pop(name, "")
    if kind == "spice" or len(graphics.get("passwd", "")) <= 8:
        graphics.attrib.pop("passwd", "")
    listens = graphics.findall("listen")
    address = graphics.get("listen")
    first = listens[0].get("address") if listens else None
    if (
        len(listens) <= 1
        and all(
            listen.get("type") == "address"
            and set(listen.keys()) <= {"type", "address"}
            and len(listen) == 0
            for listen in listens
        )
        # Both say it, and libvirt refuses it when they do not agree.
        and (address is None or first is None or address == first)
        and all(text is None or LISTEN.fullmatch(text) for text in (address, first))
    ):
        graphics.attrib.pop("listen", "")
        for listen in listens:
            graphics.remove(listen)


def _port(text: str | None) -> bool:
    return bool(re.fullmatch(r"\d{4,5}", text or "", re.ASCII)) and 5900 <= int(text or 0) <= 65535


def _character(device: Element) -> None:
    """The host's end of a serial port, console or channel: its path or address, and its log."""
    if device.get("type") == "pty":
        # Each start gives another.
        device.attrib.pop("tty", "")
        for source in device.findall("source"):
            if set(source.keys()) <= {"path"} and len(source) == 0:
                device.remove(source)
    for source in device.findall("source"):
        match device.get("type"):
            case "file" | "unix" if PLACE.fullmatch(source.get("path", "")):
                del source.attrib["path"]
            case "tcp" if source.get("host") and _service(source.get("service")):
                del source.attrib["host"], source.attrib["service"]
        if source.get("append") in ("on", "off"):
            del source.attrib["append"]
    logs = device.findall("log")
    if (
        len(logs) == 1
        and set(logs[0].keys()) <= {"file", "append"}
        and PLACE.fullmatch(logs[0].get("file", ""))
        and logs[0].get("append", "off") in ("on", "off")
    ):
        device.remove(logs[0])


def _service(text: str | None) -> bool:
    return bool(re.fullmatch(r"\d{1,5}", text or "", re.ASCII)) and 0 < int(text or 0) <= 65535


DEVICES: tuple[tuple[str, Callable[[Element], None]], ...] = (
    ("emulator", _emulator),
    ("audio", _audio),
    ("disk", _disk),
    ("interface", _interface),
    ("graphics", _graphics),
    ("serial", _character),
    ("console", _character),
    ("channel", _character),
)


# --------------------------------------------------------------- what is left is compared


def _difference(sent: Element, given: Element, path: str) -> Difference | None:
    """libvirt looks for elements by their tags: order counts among those of one tag only."""
    for name in sorted({*_names(sent), *_names(given)}):
        mine, theirs = sent.get(name), given.get(name)
        if mine != theirs:
            hidden = name == "passwd"
            return Difference(
                path=f"{path}/@{name}".lstrip("/"),
                guest="hidden" if hidden and mine else _shown(mine),
                given="hidden" if hidden and theirs else _shown(theirs),
            )
    mine, theirs = (sent.text or "").strip(), (given.text or "").strip()
    if mine != theirs:
        return Difference(path=path, guest=_shown(mine or None), given=_shown(theirs or None))
    children, others = _by_tag(sent), _by_tag(given)
    for tag in dict.fromkeys((*children, *others)):
        here, there = children.get(tag, []), others.get(tag, [])
        below = f"{path}/{tag.rpartition('}')[2]}".lstrip("/")
        if len(here) != len(there):
            return Difference(path=below, guest=_number(here), given=_number(there))
        for number, (one, other) in enumerate(zip(here, there, strict=True), start=1):
            place = f"{below}[{number}]" if len(here) > 1 else below
            if (found := _difference(one, other, place)) is not None:
                return found
    return None


def _by_tag(element: Element) -> dict[str, list[Element]]:
    children: dict[str, list[Element]] = {}
    for child in element:
        children.setdefault(str(child.tag), []).append(child)
    return children


def _number(elements: list[Element]) -> str:
    match elements:
        case []:
            return "none"
        case [element]:
            words = [str(element.tag).rpartition("}")[2]]
            words += [
                f"{name}='{element.get(name)}'" for name in _names(element) if name != "passwd"
            ]
            return _shown(f"<{' '.join(words)}>")
    return f"{len(elements)} of them"


def _names(element: Element) -> list[str]:
    return [str(name) for name in element.keys()]  # noqa: SIM118 - an element is no mapping


def _shown(text: str | None) -> str:
    if text is None:
        return "none"
    return text if len(text) <= SHOWN_AT_MOST else f"{text[:SHOWN_AT_MOST]}..."
