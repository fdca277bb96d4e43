"""`[roles]`: what callers may ask, by the names of their certificates."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

import msgspec

from virt_preflight.treaty.callers import Caller


class Role(StrEnum):
    """Each may what those before it may."""

    # Hosts, and checks.
    VIEWER = "viewer"
    # Dry runs without an effect, and with them where guests are.
    SCHEDULER = "scheduler"
    # Trials and rehearsals.
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether who has this role may what that one may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class Roles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[roles]: patterns on certificates' names, `*` and `?` as in libvirt's tls_allowed_dn_list.

    A pattern is for the distinguished name, or with "DNS:", "IP:", "URI:" or "EMAIL:" in front for
    an alternative one.
    """

    # Of all callers without a certificate: on loopback, on Unix sockets, and where it is insecure.
    # None: admin for those who might do the same without us, scheduler for all others.
    local: Role | None = None
    viewer: tuple[str, ...] = ("*",)
    scheduler: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a pattern that no name could ever be meant by."""
        for role in (Role.VIEWER, Role.SCHEDULER, Role.ADMIN):
            for pattern in getattr(self, role):
                _refuse_unknown_kind(role, pattern)

    def of(self, caller: Caller) -> Role | None:
        """The highest that he has."""
        if not caller.certified:
            return self.local or (Role.ADMIN if caller.trusted else Role.SCHEDULER)
        patterns_by_role = {
            Role.ADMIN: self.admin,
            Role.SCHEDULER: self.scheduler,
            Role.VIEWER: self.viewer,
        }
        for role, patterns in patterns_by_role.items():
            if any(_is_meant(caller, pattern) for pattern in patterns):
                return role
        return None


OTHER_NAMES = ("DNS:", "IP:", "URI:", "EMAIL:")
# Names in which upper and lower case are the same.
CASELESS = ("DNS:", "EMAIL:")


# What no distinguished name begins with: there `=` ends the first word.
KIND = re.compile(r"[^:=*?]*:")


def _refuse_unknown_kind(role: Role, pattern: str) -> None:
    kind = KIND.match(pattern)
    if kind is not None and kind[0] not in OTHER_NAMES:
        wanted = ", ".join(OTHER_NAMES)
        raise ValueError(
            f"{role}: {pattern!r}: no name begins with {kind[0]}"
            f" (wanted {wanted} or a distinguished name)"
        )


def _is_meant(caller: Caller, pattern: str) -> bool:
    if not pattern.startswith(OTHER_NAMES):
        return _compiled(pattern).fullmatch(caller.dn) is not None
    return any(_compiled(pattern).fullmatch(name) is not None for name in caller.others)


@lru_cache(1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    flags = re.IGNORECASE if pattern.startswith(CASELESS) else re.NOFLAG
    return re.compile("".join(parts), re.DOTALL | flags)
