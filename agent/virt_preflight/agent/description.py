"""Who this host is and what is known of it: for `facts`, and for the fleet's list of hosts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from virt_preflight.agent.claims import capacity_of
from virt_preflight.agent.fact import Kind, Pace, Unknown
from virt_preflight.agent.factstore import FactStore, Question
from virt_preflight.agent.families.daemon import QemuConf
from virt_preflight.agent.families.pinning import HostCpus
from virt_preflight.agent.families.tenants import HostIdentity, HostTenants
from virt_preflight.agent.families.transport import own_name
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Capacity
from virt_preflight.agent.runner import Known
from virt_preflight.agent.sources import SourceError
from virt_preflight.agent.xml import BadXml, parse, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDescription:
    """None and 0 stand for what could not be learned; `unlearned` says why, by fact."""

    name: str
    uuid: str
    libvirt_version: int
    qemu_version: int
    capacity: Capacity | None
    domains_running: int | None
    facts_age_s: float
    class_digest: str
    # As libvirt names it; empty when it was not told.
    architecture: str
    cpus_online: int
    unlearned: Mapping[str, str]


def migration_host(store: FactStore, policy: Policy) -> str:
    """What a source would be told to connect to; empty when that is not known.

    The host's name is asked for anew: one that was changed must not be looked up as it was.
    """
    conf = store.question({Policy: policy}).value(QemuConf)
    if not isinstance(conf, QemuConf):
        return ""
    try:
        return own_name(store.source.libvirt("hostname").strip(), conf)
    except SourceError:
        return ""


def describe(store: FactStore, *, host: str, policy: Policy) -> HostDescription:
    """From all facts of the host; those that are too old are read anew."""
    question = store.question({Policy: policy})
    known = _haves(question)
    found = {fact: held.value for fact, held in known.items()}
    identity, versions = found.get(HostIdentity), found.get(HostVersions)
    tenants, cpus = found.get(HostTenants), found.get(HostCpus)
    return HostDescription(
        name=host,
        uuid=identity.uuid if isinstance(identity, HostIdentity) else "",
        libvirt_version=versions.libvirt if isinstance(versions, HostVersions) else 0,
        qemu_version=versions.qemu if isinstance(versions, HostVersions) else 0,
        capacity=capacity_of(question.value),
        domains_running=sum(one.active for one in tenants.tenants)
        if isinstance(tenants, HostTenants)
        else None,
        facts_age_s=max((held.age_s for held in known.values()), default=0.0),
        class_digest=class_digest(known),
        architecture=_architecture(store),
        cpus_online=len(cpus.online) if isinstance(cpus, HostCpus) else 0,
        unlearned={
            fact.__name__: value.why for fact, value in found.items() if isinstance(value, Unknown)
        },
    )


def _architecture(store: FactStore) -> str:
    try:
        return text_of(parse(store.source.libvirt("capabilities")), "host/cpu/arch") or ""
    except (SourceError, BadXml):
        return ""


def _haves(question: Question) -> dict[type, Known]:
    """Every fact of the host, in the families' order."""
    return {
        provider.gives: question.known(provider.gives)
        for provider in question.store.catalogue.provider_by_type.values()
        if provider.kind is Kind.HAVE
    }


def class_digest(known: Mapping[type, Known]) -> str:
    """Of the facts that stay, but for who the host is: hosts with equal digests are alike."""
    lasting = {
        fact.__name__: plain(held.value)
        for fact, held in known.items()
        if held.pace is Pace.FIXED and fact is not HostIdentity
    }
    return hashlib.sha256(msgspec.json.encode(lasting, order="deterministic")).hexdigest()[:16]


def plain(value: object) -> object:
    """A fact as what JSON has: a set as a sorted list, what could not be learned by its reason."""
    if isinstance(value, Unknown):
        return {"unknown": value.why}
    return msgspec.to_builtins(
        value, str_keys=True, order="deterministic", enc_hook=lambda odd: str(odd)
    )


def facts_as_json(store: FactStore, policy: Policy) -> str:
    """Every fact by its name, with its pace."""
    known = _haves(store.question({Policy: policy}, max_age_s=0))
    document = {
        fact.__name__: {"pace": held.pace.value, "value": plain(held.value)}
        for fact, held in known.items()
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def facts_as_text(store: FactStore, policy: Policy) -> str:
    """Every fact as indented lines, in the families' order."""
    known = _haves(store.question({Policy: policy}, max_age_s=0))
    lines: list[str] = []
    for fact, held in known.items():
        lines.append(f"{fact.__name__} ({held.pace.value})")
        lines.extend(_indented(plain(held.value), "  "))
    return "\n".join(lines)


def _indented(value: object, margin: str) -> Iterator[str]:
    """One line for a plain value or a list of them, one for each entry of anything deeper."""
    match value:
        case dict():
            for key, inner in value.items():
                if isinstance(inner, dict | list | tuple) and inner and not _is_flat(inner):
                    yield f"{margin}{key}:"
                    yield from _indented(inner, margin + "  ")
                else:
                    yield f"{margin}{key}: {_word(inner)}"
        case list() | tuple() if not _is_flat(value):
            for inner in value:
                yield f"{margin}-"
                yield from _indented(inner, margin + "  ")
        case _:
            yield f"{margin}{_word(value)}"


def _is_flat(value: object) -> bool:
    """A list of plain values fits on its key's line."""
    return isinstance(value, list | tuple) and not any(
        isinstance(inner, dict | list | tuple) for inner in value
    )


def _word(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(_word(inner) for inner in value) or "none"
        case dict():
            return "none"
        case _:
            # What a host calls a thing may hold anything: one line, nothing that steers a terminal.
            return "".join(sign if sign.isprintable() else "\ufffd" for sign in str(value))
