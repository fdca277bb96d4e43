"""The checks that there are, and the user's words for them held against the list."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from virt_preflight.controller.answers import CheckDescription
from virt_preflight.controller.question import Questions
from virt_preflight.controller.trouble import BadFieldError, MisusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every check, and the host that listed them."""

    host: str
    checks: tuple[CheckDescription, ...]


def refuse_unknown(questions: Questions, checks: Sequence[CheckDescription]) -> None:
    """A misspelt id would silently ask everything, or nothing: so it is an error."""
    ids = {check.check for check in checks}
    families = _families(ids)
    for field, given, known in (
        ("questions.only", questions.only, ids | families),
        ("questions.skip", questions.skip, ids | families),
        ("questions.waive", questions.waive, ids),
    ):
        for word in given:
            if word not in known:
                raise BadFieldError(field, f"{word}: {_why_unknown(word, ids)}")
    if ids and not any(_asked(one, questions) for one in ids):
        raise BadFieldError("questions.only", "and --skip together leave no check to ask")


def _asked(check: str, questions: Questions) -> bool:
    """Whether these options leave it in."""
    names = {check, check.partition(".")[0]}
    chosen = not questions.only or not names.isdisjoint(questions.only)
    return chosen and names.isdisjoint(questions.skip)


def named(check: str, checks: Sequence[CheckDescription]) -> CheckDescription:
    """The check of that id."""
    for one in checks:
        if one.check == check:
            return one
    raise MisusedError(f"{check}: {_why_unknown(check, {one.check for one in checks})}")


def _why_unknown(word: str, ids: set[str]) -> str:
    if word in _families(ids):
        inside = ", ".join(sorted(one for one in ids if one.startswith(f"{word}.")))
        return f"is a family, and one check is needed: {inside}"
    close = get_close_matches(word, sorted(ids | _families(ids)), n=3, cutoff=0.5)
    meant = f"; close to it: {', '.join(close)}" if close else ""
    return f"no such check{meant} (`virt-preflight checks` lists them)"


def _families(ids: set[str]) -> set[str]:
    return {one.partition(".")[0] for one in ids}
