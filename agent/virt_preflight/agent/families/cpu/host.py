"""What the host's CPU, its KVM and its libvirt have: what they offer, and which names they know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from virt_preflight.agent.fact import Pace, Unknown, have, look
from virt_preflight.agent.families.cpu.guest import X86, GuestCpuModel
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.sources import Source, SourceError, Unreadable
from virt_preflight.agent.xml import BadXml, parse, text_of

# libvirt's own book of CPU models and features: plain files that it reads when it starts.
CPU_MAP = "/usr/share/libvirt/cpu_map"
# The longest line of ancestors in libvirt 11.3 is five models.
ANCESTORS_AT_MOST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalCpu:
    """The CPU as libvirt finds it in the host, with or without KVM: `<host><cpu>`.

    `tsc_scaling`: "yes", "no", or empty where libvirt does not tell.
    """

    model: str
    features: frozenset[str]
    tsc_hz: int | None
    tsc_scaling: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A CPU model as that libvirt knows it.

    `removed`: features that it once had; `added`: features that QEMU's model has and that libvirt
    leaves out of its own. `compares_loosely`: check=partial compares it with the physical CPU too.
    """

    features: frozenset[str]
    removed: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    compares_loosely: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownCpus:
    """Which names that libvirt knows. A model that is not in the mapping it does not know."""

    feature_names: frozenset[str]
    model_by_name: Mapping[str, KnownModel | Unknown]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostCpu:
    """What guests like this one can have of the host's CPU.

    `offered`: what a host-model guest would get, written out; `physical`: what the CPU itself has.
    """

    model: str
    vendor: str
    offered: frozenset[str] | Unknown
    physical: frozenset[str] | Unknown
    # Of QEMU, as in HostVersions; None: not told.
    qemu: int | None = None


@have(Pace.FIXED)
def physical_cpu(source: Source) -> PhysicalCpu:
    """`<host><cpu>` of libvirt's capabilities."""
    cpu = parse(source.libvirt("capabilities")).find("host/cpu")
    if cpu is None:
        raise Unreadable("libvirt's capabilities name no host CPU")
    counter = cpu.find("counter[@name='tsc']")
    frequency = None if counter is None else counter.get("frequency")
    return PhysicalCpu(
        model=text_of(cpu, "model") or "",
        features=frozenset(feature.get("name", "") for feature in cpu.findall("feature")),
        tsc_hz=int(frequency) if frequency else None,
        tsc_scaling="" if counter is None else counter.get("scaling", ""),
    )


@look(Pace.FIXED)
def known_cpus(
    source: Source, guest: GuestCpuModel, seen: SeenCapabilities, physical: PhysicalCpu
) -> KnownCpus:
    """Of libvirt's CPU map, the features' names and the models that matter here."""
    if seen.architecture not in X86:
        raise Unreadable(f"CPUs of {seen.architecture} are not compared")
    listed = _listed_models(source)
    wanted = {guest.name, physical.model, seen.host_model.name if seen.host_model else ""}
    models: dict[str, KnownModel | Unknown] = {}
    for name in wanted & listed:
        try:
            models[name] = _read_model(source, name, listed)
        except (SourceError, BadXml) as error:
            models[name] = Unknown(f"CPU model {name}: {error}")
    features = parse(source.text(f"{CPU_MAP}/x86_features.xml"))
    return KnownCpus(
        feature_names=frozenset(item.get("name", "") for item in features.findall("feature")),
        model_by_name=models,
    )


def _listed_models(source: Source) -> frozenset[str]:
    """libvirt loads the files that its index names, and nothing else; each holds one model."""
    try:
        index = parse(source.text(f"{CPU_MAP}/index.xml"))
    except SourceError as error:
        raise Unreadable(f"libvirt's CPU map cannot be read: {error}") from error
    names = (item.get("filename", "") for item in index.findall("arch[@name='x86']//include"))
    return frozenset(
        name.removeprefix("x86_").removesuffix(".xml")
        for name in names
        if name not in ("x86_features.xml", "x86_vendors.xml")
    )


def _read_model(source: Source, name: str, listed: frozenset[str]) -> KnownModel:
    """x86ModelParse, cpu/cpu_x86.c: a model has what its ancestor has, and its own features."""
    features: set[str] = set()
    newest: KnownModel | None = None
    ancestor: str | None = name
    for _ in range(ANCESTORS_AT_MOST):
        if ancestor not in listed:
            raise BadXml(f"its ancestor {ancestor} is not there")
        model = parse(source.text(f"{CPU_MAP}/x86_{ancestor}.xml")).find("model")
        if model is None:
            raise BadXml(f"x86_{ancestor}.xml holds no model")
        listing = [
            (item.get("name", ""), item.get("removed"), item.get("added"))
            for item in model.findall("feature")
        ]
        removed = {feature for feature, gone, _ in listing if gone == "yes"}
        added = {feature for feature, _, extra in listing if extra == "yes"}
        own = {feature for feature, _, _ in listing} - removed - added
        features |= own if newest is None else own - newest.removed
        if newest is None:
            newest = KnownModel(
                features=frozenset(),
                removed=frozenset(removed),
                added=frozenset(added),
                compares_loosely=model.find("check[@partial='compat']") is not None,
            )
        above = model.find("model")
        if above is None:
            return KnownModel(
                features=frozenset(features),
                removed=newest.removed,
                added=newest.added,
                compares_loosely=newest.compares_loosely,
            )
        ancestor = above.get("name", "")
    raise BadXml("its ancestors have no end")


@look(Pace.FIXED)
def host_cpu(
    seen: SeenCapabilities, known: KnownCpus, physical: PhysicalCpu, versions: HostVersions
) -> HostCpu:
    """Both CPUs of the host, written out by libvirt's own models."""
    if seen.host_model is None:
        return HostCpu(
            model="",
            vendor="",
            offered=Unknown("libvirt offers no host model for such a guest"),
            physical=written_out(known, physical.model, physical.features),
            qemu=versions.qemu,
        )
    required, disabled = seen.host_model.required, seen.host_model.disabled
    return HostCpu(
        model=seen.host_model.name,
        vendor=seen.host_model.vendor,
        offered=written_out(known, seen.host_model.name, required, disabled),
        physical=written_out(known, physical.model, physical.features),
        qemu=versions.qemu,
    )


def written_out(
    known: KnownCpus, name: str, more: frozenset[str], less: frozenset[str] = frozenset()
) -> frozenset[str] | Unknown:
    """All features of a CPU that is told as a model with some more and some less."""
    if not name:
        return more - less
    model = known.model_by_name.get(name)
    if model is None:
        return Unknown(f"libvirt's CPU map has no model {name}")
    return model if isinstance(model, Unknown) else (model.features | more) - less
