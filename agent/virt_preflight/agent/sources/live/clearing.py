"""Removes what a stand-in left on this host: files of its own name, the TPM of its own UUID.

And puts back what libvirt took of the files that it shares with the running guest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from virt_preflight.agent.sources.stage import STANDIN

NAME = re.compile(re.escape(STANDIN) + r"[0-9a-f]{8}")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What libvirt leaves of any guest that ever started, by its name.
LOGS = ("/var/log/libvirt/qemu/{name}.log", "/var/log/swtpm/libvirt/qemu/{name}-swtpm.log")
# Of an emulated TPM, by the guest's UUID.
TPM_STATE = "/var/lib/libvirt/swtpm/{uuid}"
# libvirt notes a file's earlier owner there (remember_owner in qemu.conf), and takes the note away
# from all disks of a guest that ends, its labels or not (qemuBlockRemoveImageMetadata). The name:
# virSecurityGetRememberedAttrName (security/security_util.c).
NOTED = "trusted.libvirt.security."
# By path: which file it is, and libvirt's notes by their names, in hexadecimal.
Owners = Mapping[str, Mapping[str, Any]]


def is_standin(name: str, uuid: str) -> bool:
    """Whether somebody of that name is one of ours, and no guest."""
    return NAME.fullmatch(name) is not None and UUID.fullmatch(uuid) is not None


def shut_out() -> str:
    """Where this process could not remove what a stand-in leaves; empty when it could."""
    for folder in map(os.path.dirname, LOGS):
        # As capabilities have it, not by who started us.
        if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            return folder
    return ""


def clear(name: str, uuid: str, files: Sequence[str]) -> None:
    """Remove what came to be with it: only what is called after it, and no link's other end."""
    if not is_standin(name, uuid):
        raise ValueError(f"{name!r} is no stand-in")
    for path in (*files, *(log.format(name=name) for log in LOGS)):
        if os.path.basename(path).startswith(name):
            # A directory of that name is nobody's of ours: unlink(2) refuses it.
            with suppress(OSError):
                os.unlink(path)
    with suppress(OSError):
        _remove_tree(TPM_STATE.format(uuid=uuid))


def owners_noted(paths: Iterable[str]) -> Owners:
    """Whose each is, which file it is, and what libvirt noted of it."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        with suppress(OSError):  # it is not there
            seen = os.stat(path)
            which, owner = [seen.st_dev, seen.st_ino], [seen.st_uid, seen.st_gid]
            notes: Mapping[str, bytes] = {}
            with suppress(OSError):  # a file system that keeps no such notes
                notes = remembered(path)
            told = {name: value.hex() for name, value in notes.items()}
            found[path] = {"file": which, "owner": owner, "notes": told}
    return found


def remembered(path: str) -> Mapping[str, bytes]:
    """libvirt's notes of one file, which only root reads. Raises OSError."""
    names = os.listxattr(path)
    return {name: os.getxattr(path, name) for name in names if name.startswith(NOTED)}


def note_owners_again(noted: Owners) -> None:
    """As before, unless it is another file by now.

    libvirtd opens the log of a serial port as its owner itself, whatever the labels say, where it
    does not leave logs to virtlogd (seen with 9.0).
    """
    for path, before in noted.items():
        with suppress(OSError):
            seen = os.stat(path)
            if [seen.st_dev, seen.st_ino] != before["file"]:
                continue
            if [seen.st_uid, seen.st_gid] != before["owner"]:
                os.chown(path, *before["owner"])
            if not before["notes"]:
                continue
            there = set(os.listxattr(path))
            for name, value in before["notes"].items():
                if name not in there:
                    os.setxattr(path, name, bytes.fromhex(value))


def _remove_tree(path: str) -> None:
    """A TPM's folder holds one folder for its version, and that holds files."""
    with _opened_folder(path, None) as above:
        for inner in os.listdir(above):
            with suppress(OSError), _opened_folder(inner, above) as folder:
                for name in os.listdir(folder):
                    with suppress(OSError):
                        os.unlink(name, dir_fd=folder)
            with suppress(OSError):
                os.rmdir(inner, dir_fd=above)
    os.rmdir(path)


@contextmanager
def _opened_folder(path: str, above: int | None) -> Iterator[int]:
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        yield opened
    finally:
        os.close(opened)
