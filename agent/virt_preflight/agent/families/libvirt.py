"""What libvirt itself said when it was asked, and what it would not even say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import Pace, have
from virt_preflight.agent.families.versions import NEWCOMERS
from virt_preflight.agent.hearing import Hearings
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.schema import FILES_AT_MOST, Schema, included, read_schema
from virt_preflight.agent.sources import Source, SourceError
from virt_preflight.agent.xml import BadXml, parse

# libvirt's packages put it there, with the library itself (Debian: libvirt0, libvirt-common).
SCHEMAS = "/usr/share/libvirt/schemas"
DOMAIN = "domain.rng"

# What comes of it where that is known, by the end of the path.
HARM_BY_END = {
    "driver/@iothreads": "one thread serves all of the disk's queues there",
    "driver/iothreads": "one thread serves all of the disk's queues there",
    "driver/@discard_no_unref": "discarded clusters of the image are given back there",
}
# What newer libvirts write out though it is what older ones do anyway (11.3 beside 9.0).
USUAL_BY_PATH = {
    "cpu/topology/@clusters": "1",
    "os/loader/@format": "raw",
    "os/nvram/@format": "raw",
    "os/nvram/@templateFormat": "raw",
}
# Checks of the family `versions` speak of these: elements that libvirt refuses, or devices.
SPOKEN_OF = ("features/", "devices/")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownXml:
    """The schema of the host's own libvirt; None with the reason why it is not read."""

    schema: Schema | None
    why: str = ""


@have(Pace.FIXED)
def known_xml(source: Source) -> KnownXml:
    """Read with all that it includes; made sense of once for each text."""
    try:
        texts = _texts(source)
        return KnownXml(schema=_schema(tuple(sorted(texts.items()))))
    except (SourceError, BadXml, KeyError) as error:
        return KnownXml(schema=None, why=f"{SCHEMAS}/{DOMAIN}: {error}")


def _texts(source: Source) -> Mapping[str, str]:
    text_by_name: dict[str, str] = {}
    wanted = [DOMAIN]
    while wanted and len(text_by_name) < FILES_AT_MOST:
        name = wanted.pop()
        if name and "/" not in name and name not in text_by_name:
            text_by_name[name] = source.text(f"{SCHEMAS}/{name}")
            wanted += _included(text_by_name[name])
    return text_by_name


@lru_cache(maxsize=FILES_AT_MOST)
def _included(text: str) -> tuple[str, ...]:
    return tuple(included(text))


@lru_cache(maxsize=2)
def _schema(texts: tuple[tuple[str, str], ...]) -> Schema:
    schema = read_schema(dict(texts), DOMAIN)
    # One of something else says so here, and not of each guest.
    list(schema.unknown(parse("<domain/>")))
    return schema


@check(
    "libvirt.refused",
    Severity.BLOCKER,
    title="libvirt refuses it",
    remedy="libvirt's own words say what it wants; the real migration would end with them.",
    side=Side.EITHER,
    phase=Phase.PREPARE,
    offline=True,
)
def refused(hearings: Hearings) -> Problems:
    """libvirt was asked, and said no in words that no other check knows.

    From the depth `libvirt` on. A refusal whose words are known stands under the id of the check
    that looks for the same fault. Where libvirt was asked and did not answer, or may not be asked,
    this is left open.
    """
    said_by_words = {
        said.problem.libvirt_error: said.problem
        for _, said in reversed(tuple(hearings.said()))
        if said.check == "libvirt.refused"
    }
    yield from reversed(said_by_words.values())
    for hearing in hearings.heard:
        if hearing.doubt:
            yield CouldNotTell(subject=hearing.ask, why=hearing.doubt, depth=hearing.depth)


@check(
    "libvirt.left-behind",
    Severity.RISK,
    title="the rehearsal left something behind",
    remedy="Put it back by hand: the host's agent could not.",
    phase=Phase.AFTER,
)
def left_behind(hearings: Hearings) -> Problems:
    """A rehearsal makes libvirt prepare the host; what that changes is put back, or told here.

    As where the janitor lacks a right, or where somebody else has taken hold of a file meanwhile.
    It does not keep the guest from moving there. The agent's log has it as well.
    """
    for hearing in hearings.heard:
        for left in hearing.left:
            yield Problem(
                subject=hearing.ask,
                wanted="the host as it was before",
                found=f"left undone: {left}",
                depth=hearing.depth,
            )


@check(
    "libvirt.element-unknown",
    Severity.RISK,
    title="this libvirt drops a part of the guest",
    remedy="Upgrade libvirt there, or take what it does not know out of the guest beforehand.",
    phase=Phase.AFTER,
    offline=True,
)
def element_unknown(_hearings: Hearings, domain: Domain, known: KnownXml) -> Problems:
    """libvirt passes over elements and attributes that it does not know, without a word.

    The guest arrives without them. From the depth `libvirt` on, by the schema that the host's
    libvirt came with; deeper, by what libvirt made of the guest. The subject is the path of the
    part below `<domain>`, as `virsh dumpxml --migratable --xpath` takes it: line numbers would be
    those of a text that no one has. Parts for which there is a check of their own - devices,
    features, what breaks the migration - are left to it. A host without the schema is none the
    worse for it, and is told so.
    """
    if known.schema is None:
        yield Problem(
            subject="libvirt's schema of domain XML",
            wanted="its files, to tell what libvirt there would drop",
            found=known.why,
            remedy="Install them: they come with libvirt's own packages.",
            severity=Severity.NOTE,
            depth=Depth.LIBVIRT,
        )
        return
    unusual = (
        part.path
        for part in known.schema.unknown(domain.root)
        if USUAL_BY_PATH.get(part.path) != part.value
    )
    for path in dict.fromkeys(unusual):
        if not _has_its_own(path):
            yield Problem(
                subject=path,
                wanted="known to the libvirt there",
                found=f"not in its schema{_harm(path)}",
                depth=Depth.LIBVIRT,
            )


@check(
    "libvirt.left-out",
    Severity.NOTE,
    title="not a part of the trial",
    remedy="Ask at the depth `rehearsal` to have it prepared as well.",
    phase=Phase.PREPARE,
)
def left_out(hearings: Hearings) -> Problems:
    """A trial leaves out what it could not take back, or what others than this host would notice.

    Devices that the host would have to give up, programs and scripts beside QEMU, ports of virtual
    switches. For these the facts alone speak.
    """
    for _, said in hearings.said():
        if said.check == "libvirt.left-out":
            yield said.problem


def _has_its_own(path: str) -> bool:
    direct = any(
        path.startswith(above) and "/" not in path.removeprefix(above) and "@" not in path
        for above in SPOKEN_OF
    )
    return direct or any(path == _path_of(one.path, one.attribute) for one in NEWCOMERS)


def _path_of(element: str, attribute: str) -> str:
    return f"{element}/@{attribute}" if attribute else element


def _harm(path: str) -> str:
    harm = next((told for end, told in HARM_BY_END.items() if path.endswith(f"/{end}")), "")
    return f": {harm}" if harm else ""
