"""A rehearsal, on the destination: whether it may be, what was there before, what is put back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import msgspec

from virt_preflight.agent.asks.belongings import files_of
from virt_preflight.agent.asks.bounds import beyond_telling, out_of_bounds
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.factstore import Question
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.guest import Disk, GuestDisks, copied
from virt_preflight.agent.families.disks.images import SeenDisks
from virt_preflight.agent.families.disks.openings import runs_as, stat_or_none
from virt_preflight.agent.families.disks.sharing import SHARED_TYPES
from virt_preflight.agent.families.memory import guest_memory_files
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.residents import Resident, residents
from virt_preflight.agent.sources import (
    Absent,
    FileStat,
    Refused,
    Source,
    SourceError,
    Unreadable,
    Want,
)
from virt_preflight.agent.sources.rehearsing import NVRAM_DIRECTORY, SWTPM_DIRECTORY, Broom
from virt_preflight.agent.xml import attribute, parse, text_of
from virt_preflight.treaty import allowable

T = TypeVar("T")

HOOKS = "/etc/libvirt/hooks"
# Since then Finish knows that the state of a TPM on shared storage is the running guest's (9.1.0).
TPM_SHARED_SINCE = 9_001_000
# libvirtd gives a client up after 30 s without a sign of life and then ends what he started.
GONE_WITHIN_S = 60.0
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What is there before a rehearsal, as far as one could change it."""

    name: str
    uuid: str
    # Whether libvirt knew the guest's UUID already.
    defined: bool
    # The id that it runs under there, if it does: libvirt then refuses, and nothing comes to be.
    runs_as: int | None = None
    # Disks whose owner needs no change, by the path that the XML names.
    keep_owner_of: frozenset[str] = frozenset()
    # Nothing was there.
    absent_files: tuple[str, ...] = ()
    # Of these, what libvirt makes as a copy of another file.
    template_by_path: Mapping[str, str] = field(default_factory=dict)
    absent_directories: tuple[str, ...] = ()
    absent_images: tuple[str, ...] = ()
    absent_volumes: tuple[tuple[str, str], ...] = ()
    # Files with an owner that libvirt may change.
    owned: Mapping[str, FileStat] = field(default_factory=dict)
    # What libvirt has written down at them of whom they belonged to.
    remembered: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    # The users that libvirt changes it to: QEMU's, and root when all is over.
    changed_to: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What was put back, and what could not be, in words."""

    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def attend(
    question: Question,
    domain: Domain,
    options: MigrationOptions,
    origin: GuestOrigin | None,
    allow: frozenset[str],
    broom: Broom,
) -> Notes | str:
    """What is there before; or why the guest must not be rehearsed towards this host."""
    try:
        for why in forbidden(question, domain, options, origin, allow):
            return why
        noted = notes(question, domain, options)
        kept = {path: broom.remembered(path) for path in noted.owned}
        noted = replace(noted, remembered={path: some for path, some in kept.items() if some})
        broom.write_down(noted.uuid, msgspec.json.encode(noted).decode())
    except Refused as error:
        return str(error)
    except SourceError as error:
        return f"what is there before could not be told: {error}"
    else:
        return noted


def attended_before(broom: Broom) -> tuple[Notes, ...]:
    """What an agent before this one noted, and did not live to put back."""
    found = []
    for uuid, text in tuple(broom.written_down().items()):
        try:
            found.append(msgspec.json.decode(text, type=Notes))
        except msgspec.MsgspecError:
            broom.cross_out(uuid)  # it was killed as it wrote, before anything was rehearsed
    return tuple(found)


def forbidden(
    question: Question,
    domain: Domain,
    options: MigrationOptions,
    origin: GuestOrigin | None,
    allow: frozenset[str],
) -> Iterator[str]:
    """Each reason why not."""
    source = question.store.source
    # At first: what comes after it looks at files that the guest names.
    if why := out_of_bounds(question, domain) or beyond_telling(question, domain):
        yield why
    if options.offline:
        yield "a move with --offline has no Prepare that could be cancelled"
    if options.migrateuri.startswith("unix:"):
        yield "the socket of --migrateuri, which the destination's QEMU makes, would stay there"
    if not domain.uuid:
        yield "the guest has no UUID"
    yield from _arriving(source, domain)
    if allowable.HOOKS not in allow:
        yield from _hooks(source, domain)
    if allowable.OPEN_VSWITCH not in allow:
        yield from _open_vswitch(source, domain)
    yield from _shared_tpm(source, domain, origin)
    yield from _kept_tpm(source, domain)
    yield from _sockets(source, domain)
    yield from _memory_files(domain)
    yield from _unseen_copies(question, options)


def _arriving(source: Source, domain: Domain) -> Iterator[str]:
    known = _resident(source, domain.uuid)
    if known is None or not known.runs:
        return
    job = json.loads(source.libvirt("domain-jobs", domain.uuid)).get("job") or ""
    if str(job).startswith("migration"):
        yield "the guest is being migrated to this host"


def _hooks(source: Source, domain: Domain) -> Iterator[str]:
    """libvirtd would run them as for a guest that comes, and they may do anything.

    Those of networks when a NIC's port is made (networkAllocatePort, network/bridge_driver.c).
    """
    of_networks = domain.root.find("devices/interface[@type='network']") is not None
    scripts = []
    for kind in ("qemu", "network") if of_networks else ("qemu",):
        scripts += [f"{HOOKS}/{kind}"] if stat_or_none(source, f"{HOOKS}/{kind}") else []
        with suppress(Absent):
            scripts += [f"{HOOKS}/{kind}.d/{name}" for name in source.names(f"{HOOKS}/{kind}.d")]
    if scripts:
        yield f"libvirtd would run {', '.join(scripts)}: --allow {allowable.HOOKS}"


def _open_vswitch(source: Source, domain: Domain) -> Iterator[str]:
    """A port of the switch is a change that its controller sees."""
    nets = [
        attribute(nic, "source", "network")
        for nic in domain.root.findall("devices/interface[@type='network']")
    ]
    of_network: set[str] = set()
    if any(nets):
        for network in json.loads(source.libvirt("networks")):
            root = parse(network["xml"])
            if root.find(".//virtualport[@type='openvswitch']") is not None:
                of_network.add(network["name"])
    own = domain.root.find("devices/interface/virtualport[@type='openvswitch']")
    if own is not None or of_network & set(nets):
        yield f"a port of Open vSwitch would be made: --allow {allowable.OPEN_VSWITCH}"


def _shared_tpm(source: Source, domain: Domain, origin: GuestOrigin | None) -> Iterator[str]:
    """An older libvirt removes the state of the TPM when it cancels: the running guest's own."""
    if domain.root.find("devices/tpm/backend[@type='emulator']") is None:
        return
    here = json.loads(source.libvirt("version"))["libvirt"]
    there = origin.libvirt_version if origin else None
    if min(here, there or 0) >= TPM_SHARED_SINCE:
        return
    if _file_system(source, SWTPM_DIRECTORY) in SHARED_TYPES:
        yield f"{SWTPM_DIRECTORY} is shared, and a libvirt before 9.1 removes the TPM's state there"


def _kept_tpm(source: Source, domain: Domain) -> Iterator[str]:
    """State of a TPM that an earlier guest left here goes with a guest that is not defined here.

    libvirt ends a transient guest with all that is its own (qemuExtTPMCleanupHost); seen with 9.0.
    """
    if domain.root.find("devices/tpm/backend[@type='emulator']") is None:
        return
    swtpm = f"{SWTPM_DIRECTORY}/{domain.uuid}"
    if stat_or_none(source, swtpm) is None or _resident(source, domain.uuid) is not None:
        return
    if source.file_system(swtpm) not in SHARED_TYPES:
        yield f"{swtpm} is there, and libvirt would remove it with the guest that is not defined"


def _sockets(source: Source, domain: Domain) -> Iterator[str]:
    """QEMU takes the place of a socket that is there: on shared storage, the running guest's."""
    bound = [
        *(one.get("path") for one in domain.root.findall("devices/*/source[@mode='bind']")),
        *(one.get("socket") for one in domain.root.findall("devices/graphics")),
        *(one.get("socket") for one in domain.root.findall("devices/graphics/listen")),
    ]
    for path in bound:
        if path and stat_or_none(source, path) is not None:
            yield f"the socket {path} is there, and the waiting QEMU would take its place"


def _memory_files(domain: Domain) -> Iterator[str]:
    """QEMU touches each page of them as it starts (libvirt has it preallocate them).

    Seen: written to by a rehearsal with QEMU 7.2. On shared storage the running guest writes to the
    same pages meanwhile, and nobody keeps the two apart.
    """
    found = guest_memory_files(domain)
    for file in found.files if found else ():
        yield f"{file.path} is a memory device, and the waiting QEMU would write to it"


def _file_system(source: Source, path: str) -> str:
    """Of what there is of the path."""
    while stat_or_none(source, path) is None:
        path = path.rpartition("/")[0] or "/"
    return source.file_system(path)


def _unseen_copies(question: Question, options: MigrationOptions) -> Iterator[str]:
    """Images that libvirt makes for a copy are only removed when it is known that they are new."""
    for disk in _copied(question, options):
        if isinstance(_image(question, disk), Unknown):
            yield f"whether the image of {disk.target} is there before could not be told"


def notes(question: Question, domain: Domain, options: MigrationOptions) -> Notes:
    """Raises SourceError."""
    source = question.store.source
    qemu = _known(question, QemuUser)
    # Disks with all below them, and what else libvirt gives to QEMU: firmware, kernels, logs.
    seen = _files(question)
    others = (path for path, _ in files_of(domain.root) if path not in seen)
    looked_at: dict[str, FileStat | Unknown | None] = {
        **seen,
        **{path: stat_or_none(source, path) for path in others},
    }
    files = {
        path: found
        for path, found in looked_at.items()
        if found is not None and not isinstance(found, Unknown)
    }
    new = [disk for disk in _copied(question, options) if _image(question, disk) is None]
    absent = [path for path in _written(domain) if stat_or_none(source, path) is None]
    tpm = domain.root.find("devices/tpm/backend[@type='emulator']")
    swtpm = f"{SWTPM_DIRECTORY}/{domain.uuid}"
    no_tpm = tpm is not None and stat_or_none(source, swtpm) is None
    user = qemu.user if qemu else None
    known = _resident(source, domain.uuid)
    return Notes(
        name=options.dname or domain.name,
        uuid=domain.uuid,
        defined=known is not None,
        runs_as=known.id if known else None,
        keep_owner_of=frozenset(_keeping(question, qemu)),
        absent_files=tuple(absent),
        template_by_path=_templates(domain),
        absent_directories=(swtpm,) if no_tpm else (),
        absent_images=tuple(disk.top.path for disk in new if disk.top.path),
        absent_volumes=tuple(
            (disk.top.pool, disk.top.volume) for disk in new if disk.top.kind == "volume"
        ),
        owned=files,
        changed_to=frozenset({0, user.uid} if user else {0}),
    )


def _keeping(question: Question, qemu: QemuUser | None) -> Iterator[str]:
    """Disks that QEMU could open as they are."""
    disks = _known(question, GuestDisks)
    if disks is None or qemu is None or not qemu.dynamic_ownership:
        return
    source = question.store.source
    user = runs_as(source, qemu, disks.dac)
    files = _files(question)
    for disk in disks.disks:
        path = disk.top.path
        found = files.get(path)
        if not disk.top.is_local or found is None or isinstance(found, Unknown):
            continue
        want = Want.READ if disk.readonly else Want.WRITE
        if source.may(path, Want.READ, user) and source.may(path, want, user):
            yield path


def _written(domain: Domain) -> Iterator[str]:
    """Files that Prepare makes where there are none: firmware's variables, logs, screens' sockets.

    QEMU leaves those sockets behind; those of channels libvirt takes away.
    """
    if nvram := _nvram(domain):
        yield nvram
    for device in domain.root.findall("devices/*[@type='file']/source[@path]"):
        yield device.get("path", "")
    for log in domain.root.findall("devices/*/log[@file]"):
        yield log.get("file", "")
    screens = domain.root.findall("devices/graphics")
    shown = (listen for screen in screens for listen in (screen, *screen.findall("listen")))
    yield from dict.fromkeys(path for element in shown if (path := element.get("socket", "")))


def _templates(domain: Domain) -> Mapping[str, str]:
    """Of the firmware's variables."""
    template = attribute(domain.root, "os/nvram", "template")
    path = _nvram(domain)
    return {path: template} if path and template else {}


def _nvram(domain: Domain) -> str:
    return text_of(domain.root, "os/nvram") or (
        attribute(domain.root, "os/nvram/source", "file") or ""
    )


def _is_copy(source: Source, path: str, of: str) -> bool:
    """Whether nobody has written to it since libvirt made it."""
    try:
        return bool(of) and source.digest(path) == source.digest(of)
    except SourceError:
        return False


def _copied(question: Question, options: MigrationOptions) -> list[Disk]:
    disks = _known(question, GuestDisks)
    return [disk for disk in disks.disks if copied(disk, options)] if disks else []


def _image(question: Question, disk: Disk) -> object:
    """What is there of a disk: None for nothing, Unknown when that cannot be told."""
    top = disk.top
    seen = _known(question, SeenDisks)
    if seen is None:
        return Unknown("its images were not looked at")
    if top.kind == "volume":
        return seen.volumes.get((top.pool, top.volume), Unknown("not looked at"))
    if top.is_local:
        return seen.files.get(top.path, Unknown("not looked at"))
    return top  # on a server: libvirt makes no images there


def _files(question: Question) -> Mapping[str, FileStat | Unknown | None]:
    seen = _known(question, SeenDisks)
    return seen.files if seen else {}


def _known(question: Question, fact: type[T]) -> T | None:
    """Raises Unreadable when it could not be learned."""
    found = question.value(fact)
    if isinstance(found, Unknown):
        raise Unreadable(found.why)
    assert found is None or isinstance(found, fact)
    return found


def _resident(source: Source, uuid: str) -> Resident | None:
    return next((one for one in residents(source) if one.uuid == uuid), None)


# -------------------------------------------------------------------------------------- afterwards


def tidy(
    noted: Notes,
    source: Source,
    broom: Broom,
    clock: Callable[[], float],
    sleep: Callable[[float], None] = time.sleep,
) -> Tidied:
    """Wait until the guest is gone, then remove what was not there, give back what was taken."""
    try:
        return _tidied(noted, source, broom, clock, sleep)
    finally:
        with suppress(SourceError):
            broom.cross_out(noted.uuid)


def _tidied(
    noted: Notes,
    source: Source,
    broom: Broom,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Tidied:
    still = _gone(noted, source, clock, sleep)
    if still:
        return Tidied(left=(still,))
    done: list[str] = []
    left: list[str] = []
    for what, why_left, put_back in _to_do(noted, source, broom):
        try:
            if why_left or _there(noted, source):
                left.append(f"{what}: {why_left or 'the guest is there'}")
                continue
            put_back()
        except SourceError as error:
            left.append(f"{what}: {error}")
        else:
            done.append(what)
    return Tidied(done=tuple(done), left=tuple(left))


def _gone(
    noted: Notes, source: Source, clock: Callable[[], float], sleep: Callable[[float], None]
) -> str:
    """Empty as soon as nothing of the guest runs there that did not before; else what keeps it."""
    until_s = clock() + GONE_WITHIN_S
    while True:
        try:
            if not _there(noted, source):
                return ""
            why = f"{noted.name} is still there"
        except SourceError as error:
            why = f"whether {noted.name} is gone could not be told: {error}"
        if clock() >= until_s:
            return why
        sleep(LOOK_EVERY_S)


def _there(noted: Notes, source: Source) -> bool:
    """Whether libvirt knows the guest better than it did before: what it made is then in use."""
    known = _resident(source, noted.uuid)
    return known is not None and (known.id != noted.runs_as or not noted.defined)


def _to_do(
    noted: Notes, source: Source, broom: Broom
) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """What was done, why it cannot be done (or empty), and how."""
    for path in noted.absent_files:
        found = stat_or_none(source, path)
        if found is None or found.kind not in ("file", "socket"):
            continue
        # Others may make a file meanwhile: ours is empty, or where libvirt alone makes files.
        ours = path.startswith(NVRAM_DIRECTORY) and "/.." not in path
        ours = ours or _is_copy(source, path, noted.template_by_path.get(path, ""))
        why = "" if ours or not found.size_bytes else "somebody has written to it"
        yield f"removed {path}", why, partial(broom.remove_file, path)
    for path in noted.absent_directories:
        if stat_or_none(source, path) is not None:
            yield f"removed {path}", "", partial(broom.remove_directory, path)
    images = [path for path in noted.absent_images if stat_or_none(source, path) is not None]
    images += [path for pool, name in noted.absent_volumes if (path := _volume(source, pool, name))]
    for path in images:
        yield f"removed the volume {path}", "", partial(broom.remove_volume, path)
    for path, kept in noted.remembered.items():
        if stat_or_none(source, path) is not None and broom.remembered(path) != kept:
            yield f"wrote down again whose {path} is", "", partial(broom.remember, path, kept)
    for path, before in noted.owned.items():
        now = stat_or_none(source, path)
        if now is None or (now.device, now.inode) != (before.device, before.inode):
            continue
        if (now.uid, now.gid) == (before.uid, before.gid) or now.uid not in noted.changed_to:
            continue
        owner = f"{before.uid}:{before.gid}"
        give_back = partial(broom.give_back, path, before.uid, before.gid)
        yield f"gave {path} back to {owner}", "", give_back


def _volume(source: Source, pool: str, name: str) -> str:
    try:
        return str(json.loads(source.libvirt("volume", pool, name))["path"])
    except SourceError:
        return ""
