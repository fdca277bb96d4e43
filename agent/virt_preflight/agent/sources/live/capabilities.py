"""Rights of one thread, as capabilities(7) names them: asked and changed without the others'."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, replace

# Bits of linux/capability.h.
SETGID, SETUID = 1 << 6, 1 << 7
# What setfsuid(2) takes from root that becomes another: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH,
# FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE (CAP_FS_SET of the kernel).
OF_FILES = 0b11111 | 1 << 9 | 1 << 27 | 1 << 32
VERSION_3 = 0x20080522
LIBC = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    """32 bits of each set; two make the whole."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The three sets of a thread."""

    effective: int
    permitted: int
    inheritable: int

    def for_files_of(self, uid: int) -> Capabilities:
        """As they are while the thread asks for files as that user: root has all that we may."""
        given = self.permitted & OF_FILES if uid == 0 else 0
        return replace(self, effective=self.effective & ~OF_FILES | given)


def own() -> Capabilities:
    """The calling thread's."""
    halves = (_Half * 2)()
    _called(LIBC.capget(ctypes.byref(_Header(VERSION_3, 0)), halves))
    low, high = halves
    return Capabilities(
        effective=low.effective | high.effective << 32,
        permitted=low.permitted | high.permitted << 32,
        inheritable=low.inheritable | high.inheritable << 32,
    )


def put(wanted: Capabilities) -> None:
    """Give the calling thread these."""
    halves = (_Half * 2)(
        *(_Half(*(bits >> shift & 0xFFFFFFFF for bits in _sets(wanted))) for shift in (0, 32))
    )
    _called(LIBC.capset(ctypes.byref(_Header(VERSION_3, 0)), halves))


def _sets(whole: Capabilities) -> tuple[int, int, int]:
    return whole.effective, whole.permitted, whole.inheritable


def _called(code: int) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
