"""Records a host: every fact, the guests that live there, and guests as if they came there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.departure import departure
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.dryrun import Asked, dry_run
from virt_preflight.agent.fact import Kind
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.residents import residents
from virt_preflight.agent.scrub import scrubbed
from virt_preflight.agent.sources import Source, SourceError
from virt_preflight.agent.sources.recording import BadRecording, Recorder, Recording, save
from virt_preflight.agent.xml import BadXml

EVERYTHING_ANEW = Asked(max_age_s=0)


def record(
    source: Source,
    directory: Path,
    *,
    host: str,
    guests: Mapping[Path, bytes],
    policy: Policy,
    recorded_at: str,
    scrub: bool,
) -> None:
    """Write into a directory that is new or empty. Raises BadRecording, BadXml, OSError."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadRecording(f"{directory} is not an empty directory")
    coming = [_domain(path, document) for path, document in guests.items()]
    recorder = Recorder(source=source)
    store = FactStore(source=recorder, catalogue=catalogue(), clock=time.monotonic)
    question = store.question({Policy: policy}, max_age_s=0)
    for provider in store.catalogue.provider_by_type.values():
        if provider.kind is Kind.HAVE:
            question.known(provider.gives)
    living = _living(recorder)
    for name in living:
        departure(
            store,
            name,
            host=host,
            policy=policy,
            options=MigrationOptions(),
            asked=EVERYTHING_ANEW,
        )
    for domain in coming:
        dry_run(
            store,
            domain,
            host=host,
            policy=policy,
            options=MigrationOptions(),
            asked=EVERYTHING_ANEW,
        )
    recording = Recording(
        host=host,
        recorded_at=recorded_at,
        agent_version=version("virt-preflight-agent"),
        answers=recorder.answers,
    )
    if scrub:
        names = (host, *living, *(domain.name for domain in coming))
        recording = scrubbed(recording, names)
    save(recording, directory)


def _domain(path: Path, document: bytes) -> Domain:
    try:
        return read_domain(document)
    except BadXml as error:
        raise BadRecording(f"{path}: {error}") from None


def _living(source: Source) -> tuple[str, ...]:
    """Names of the guests here; none when libvirt does not tell, and that is then recorded."""
    try:
        return tuple(one.name for one in residents(source))
    except SourceError:
        return ()
