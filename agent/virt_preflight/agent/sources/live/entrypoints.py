"""libvirt's phases of a migration one by one: entry points that its library exports for itself.

They carry the tag LIBVIRT_PRIVATE, and libvirt makes no promise for them; they are looked up when
first needed, and where one is missing this host cannot be asked. Their order and arguments are as
in virDomainMigrateVersion3Full (libvirt-domain.c), the same from libvirt 1.1.0 to 12.x.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import libvirt

from virt_preflight.agent.sources import Impossible

# By libvirt's names, without VIR_MIGRATE_PARAM_: what libvirt.h calls "destination_xml" and so on.
Parameters = Mapping[str, str | int | tuple[str, ...]]

# How QEMU ended tells Finish in place of its own words when the monitor closes a moment early (seen
# with 11.3 in 2 of 9 cancelled migrations on a busy machine). QEMU itself names no signal 15.
ENDED_BY_FINISH = "terminating on signal 15 from pid"


@cache
def phases() -> ctypes.CDLL:
    """The library that libvirt-python has loaded already, with the signatures of what we call."""
    try:
        loaded = ctypes.CDLL("libvirt.so.0")
        begin = loaded.virDomainMigrateBegin3Params
        prepare = loaded.virDomainMigratePrepare3Params
        finish = loaded.virDomainMigrateFinish3Params
    except (OSError, AttributeError) as error:
        raise Impossible(f"this libvirt does not give its phases away ({error})") from None
    text, number, pointer = ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p
    out_text, out_number = ctypes.POINTER(pointer), ctypes.POINTER(number)
    begin.restype = pointer
    begin.argtypes = (pointer, pointer, number, out_text, out_number, ctypes.c_uint)
    prepare.restype = number
    prepare.argtypes = (
        *(pointer, pointer, number, text, number),
        *(out_text, out_number, out_text, ctypes.c_uint),
    )
    finish.restype = pointer
    finish.argtypes = (
        *(pointer, pointer, number, text, number),
        *(out_text, out_number, ctypes.c_uint, number),
    )
    loaded.virTypedParamsAddString.argtypes = (
        *(ctypes.POINTER(pointer), out_number, out_number, text, text),
    )
    loaded.virTypedParamsAddInt.argtypes = (
        *(ctypes.POINTER(pointer), out_number, out_number, text, number),
    )
    loaded.virTypedParamsFree.argtypes = (pointer, number)
    loaded.virTypedParamsFree.restype = None
    loaded.virDomainFree.argtypes = (pointer,)
    return loaded


def begin(domain: Any, flags: int, parameters: Parameters) -> tuple[bytes, bytes]:
    """The domain XML that a migration would send, secrets in it, and the cookie beside it.

    Raises libvirtError, Impossible. Without VIR_MIGRATE_CHANGE_PROTECTION in the flags no job is
    taken and nothing has to be confirmed.
    """
    loaded = phases()
    cookie, length = ctypes.c_void_p(), ctypes.c_int()
    with _typed(parameters) as (typed, count):
        xml = loaded.virDomainMigrateBegin3Params(
            _pointer(domain, b"virDomainPtr"),
            *(typed, count, ctypes.byref(cookie), ctypes.byref(length), flags),
        )
        if not xml:
            raise libvirt.libvirtError("virDomainMigrateBegin3Params() failed")
    return _taken(xml), _taken(cookie.value, length.value)


def prepare(
    connection: Any, flags: int, parameters: Parameters, cookie: bytes
) -> tuple[bytes, str]:
    """Starts the guest's QEMU on the destination, waiting: its cookie and its migration URI.

    Whoever calls this calls `finish` in any case. Raises libvirtError, Impossible.
    """
    # Without a cookie the destination's libvirtd dies of a null pointer (7.0, 9.0 and 11.3).
    assert b"<capabilities" in cookie, "a cookie without capabilities kills libvirtd"
    # The length counts the NUL at its end, as libvirt's own does.
    cookie = cookie.rstrip(b"\0") + b"\0"
    loaded = phases()
    answer, length, uri = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_void_p()
    with _typed(parameters) as (typed, count):
        status = loaded.virDomainMigratePrepare3Params(
            _pointer(connection, b"virConnectPtr"),
            *(typed, count, cookie, len(cookie)),
            *(ctypes.byref(answer), ctypes.byref(length), ctypes.byref(uri), flags),
        )
        if status < 0:
            raise libvirt.libvirtError("virDomainMigratePrepare3Params() failed")
    return _taken(answer.value, length.value), _taken(uri.value).decode(errors="replace")


def cancel(connection: Any, flags: int, parameters: Parameters) -> None:
    """Finish, cancelled: ends the waiting QEMU. Raises libvirtError when that was gone before."""
    loaded = phases()
    cookie, length = ctypes.c_void_p(), ctypes.c_int()
    with _typed(parameters) as (typed, count):
        arrived = loaded.virDomainMigrateFinish3Params(
            _pointer(connection, b"virConnectPtr"),
            *(typed, count, None, 0, ctypes.byref(cookie), ctypes.byref(length), flags, 1),
        )
        _taken(cookie.value, length.value)
        assert not arrived, "a cancelled migration does not arrive"
        error = libvirt.libvirtError("virDomainMigrateFinish3Params() failed")
    # VIR_ERR_MIGRATE_FINISH_OK: "migration successfully aborted".
    aborted = error.get_error_code() == libvirt.VIR_ERR_MIGRATE_FINISH_OK
    if not aborted and ENDED_BY_FINISH not in (error.get_error_message() or ""):
        raise error


def _pointer(wrapped: Any, kind: bytes) -> int:
    """The C pointer behind an object of libvirt-python, which keeps it alive meanwhile."""
    unwrap = ctypes.pythonapi.PyCapsule_GetPointer
    unwrap.restype = ctypes.c_void_p
    unwrap.argtypes = (ctypes.py_object, ctypes.c_char_p)
    return int(unwrap(wrapped._o, kind))  # noqa: SLF001 - libvirt-python has no other way


@contextmanager
def _typed(parameters: Parameters) -> Iterator[tuple[ctypes.c_void_p, int]]:
    """As virTypedParameter, made and freed by libvirt itself."""
    loaded = phases()
    typed, count, room = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
    where = (ctypes.byref(typed), ctypes.byref(count), ctypes.byref(room))
    try:
        for name, value in parameters.items():
            if isinstance(value, int):
                loaded.virTypedParamsAddInt(*where, name.encode(), value)
                continue
            for one in (value,) if isinstance(value, str) else value:
                loaded.virTypedParamsAddString(*where, name.encode(), one.encode())
        yield typed, count.value
    finally:
        loaded.virTypedParamsFree(typed, count)


def _taken(address: int | None, length: int | None = None) -> bytes:
    """A copy of what libvirt allocated, which is then freed."""
    if not address:
        return b""
    copied = ctypes.string_at(address) if length is None else ctypes.string_at(address, length)
    libc = ctypes.CDLL(None)
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.free.restype = None
    libc.free(address)
    return copied
