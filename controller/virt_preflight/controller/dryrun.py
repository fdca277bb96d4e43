"""One dry run, concluded: everything that is shown of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from virt_preflight.controller.answers import Claims, Report, Verdict
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.fleet import Uris
from virt_preflight.controller.options import names_given
from virt_preflight.controller.question import Asked, GuestFile, Question
from virt_preflight.controller.ranking import Candidate, Reason, rank, reasons
from virt_preflight.controller.virsh import migrate_command


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """A guest, the hosts best first, and why some cannot take it."""

    name: str
    uuid: str
    source: str | None
    source_report: Report | None
    asked_at: datetime
    took_ms: int
    depth: Depth
    options: tuple[str, ...]
    only: tuple[str, ...]
    skip: tuple[str, ...]
    # A guest that runs nowhere yet, and so has no source.
    from_file: bool
    candidates: tuple[Candidate, ...]
    reasons: tuple[Reason, ...]
    command_by_host: Mapping[str, str]

    @property
    def verdict(self) -> Verdict:
        """The best of the hosts'."""
        return min(one.verdict for one in self.candidates)

    @property
    def claims(self) -> Claims | None:
        """What the guest would take, as the first host that knows says it."""
        if self.source_report is not None and self.source_report.claims is not None:
            return self.source_report.claims
        return next((one.claims for one in self.candidates if one.claims is not None), None)


def conclude(
    asked: Asked, question: Question, uris: Uris, asked_at: datetime, took_ms: int
) -> DryRun:
    """What all the answers come to."""
    candidates = rank(asked.source_report, asked.answers)
    return DryRun(
        name=asked.name,
        uuid=asked.uuid,
        source=asked.source,
        source_report=asked.source_report,
        asked_at=asked_at,
        took_ms=took_ms,
        depth=question.questions.depth,
        options=names_given(question.options),
        only=question.questions.only,
        skip=question.questions.skip,
        from_file=isinstance(question.guest, GuestFile),
        candidates=tuple(candidates),
        reasons=tuple(reasons(candidates)),
        command_by_host=_commands(asked, question, uris, candidates),
    )


def _commands(
    asked: Asked, question: Question, uris: Uris, candidates: Sequence[Candidate]
) -> dict[str, str]:
    """A command for each host that can take the guest; none where there is no source."""
    if asked.source is None:
        return {}
    commands = {
        one.host: migrate_command(
            uris=uris,
            source=asked.source,
            destination=one.host,
            name=asked.name,
            uuid=asked.uuid,
            options=question.options,
        )
        for one in candidates
        if one.takes_it
    }
    return {host: command for host, command in commands.items() if command is not None}
