"""All that can be asked: the facts that the families give, and their checks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType

from virt_preflight.agent.check import AnyCheck, Check
from virt_preflight.agent.domain import Domain
from virt_preflight.agent.fact import AnyProvider, Provider
from virt_preflight.agent.families import FAMILIES
from virt_preflight.agent.hearing import Hearings
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.report import Side
from virt_preflight.agent.sources import Source

# Facts that come with the question or from the configuration, and so have no provider.
GIVEN: tuple[type, ...] = (Domain, MigrationOptions, Policy, GuestOrigin, Hearings, Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Providers by the type of fact that they give, and the checks in the families' order."""

    provider_by_type: Mapping[type, AnyProvider]
    checks: tuple[AnyCheck, ...]


@cache
def catalogue() -> Catalogue:
    """Of the listed families. Raises ValueError when they do not fit together."""
    return gather(import_module(f"virt_preflight.agent.families.{name}") for name in FAMILIES)


def gather(modules: Iterable[ModuleType]) -> Catalogue:
    """What these modules hold. Raises ValueError when two give one fact, or none gives an asked."""
    providers: dict[type, AnyProvider] = {}
    checks: dict[str, AnyCheck] = {}
    for module in modules:
        for found in vars(module).values():
            if isinstance(found, Provider) and providers.setdefault(found.gives, found) != found:
                raise ValueError(f"{found.gives.__name__} has two providers")
            if isinstance(found, Check) and checks.setdefault(found.id, found) != found:
                raise ValueError(f"{found.id} is there twice")
    askers: tuple[AnyProvider | AnyCheck, ...] = (*providers.values(), *checks.values())
    for asker in askers:
        for asked in asker.asks:
            if asked not in providers and asked not in GIVEN:
                raise ValueError(f"{asker.function.__qualname__}: nobody gives {asked.__name__}")
    return Catalogue(provider_by_type=providers, checks=tuple(checks.values()))


@lru_cache(maxsize=64)
def chosen(
    checks: tuple[AnyCheck, ...],
    side: Side,
    *,
    offline: bool,
    only: frozenset[str] = frozenset(),
    skip: frozenset[str] = frozenset(),
) -> tuple[AnyCheck, ...]:
    """The checks of that side with these ids or families (none named: all), less those to skip.

    Offline: only those that also apply to a guest that is shut off.
    """
    return tuple(
        check
        for check in checks
        if check.side in (side, Side.EITHER)
        and (check.offline or not offline)
        and (not only or check.id in only or check.family in only)
        and check.id not in skip
        and check.family not in skip
    )


def unknown_names(checks: Iterable[AnyCheck], names: Collection[str]) -> tuple[str, ...]:
    """Those of the names that are neither a check's id nor a family."""
    if not names:  # most questions name none
        return ()
    known = {name for check in checks for name in (check.id, check.family)}
    return tuple(name for name in names if name not in known)
