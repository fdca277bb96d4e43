"""Whether QEMU could open a file: as the user it runs as, after libvirtd gave it what it gives."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.families.disks.guest import DacLabel
from virt_preflight.agent.sources import Absent, FileStat, Source, SourceError, User, Want

ROOT = User(name="root", uid=0, gid=0, groups=(0,))
# File systems on which root's chown(2) does what it says. Others refuse or ignore it (FUSE, CIFS,
# FAT, 9p), and libvirt takes EPERM, EOPNOTSUPP, EINVAL and EROFS for "go on"
# (virSecurityDACSetOwnershipInternal, security/security_dac.c).
TAKES_OWNERS = frozenset(
    (
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "bcachefs",
        "zfs",
        "f2fs",
        "jfs",
        "tmpfs",
        "ramfs",
        "devtmpfs",
        "overlay",
        "gfs2",
        "ocfs2",
        "ceph",
        "gpfs",
        "mmfs",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What QEMU's user may do with a file when QEMU starts; None: not to be told from here."""

    user: User
    reads: bool | None
    writes: bool | None
    # The directory that the user may not search; "" when it is the file itself that refuses.
    shut_directory: str = ""
    # What the file is like, for people: "0600 root:root" in numbers.
    found: str = ""
    file_system: str = ""


def opening(
    source: Source, path: str, found: FileStat, user: User, owner: tuple[int, int] | None
) -> Opening:
    """Whether the user could open the file after libvirtd made `owner` its owner (None: nobody).

    libvirtd changes the file's owner alone: its mode stays, and so do the directories above.
    """
    like = f"mode {found.mode:04o}, owner {found.uid}:{found.gid}"
    if not source.may(path, Want.EXISTS, user):
        shut = shut_directory(source, path, user)
        return Opening(user=user, reads=False, writes=False, shut_directory=shut, found=like)
    now = source.may(path, Want.READ, user), source.may(path, Want.WRITE, user)
    if owner is None or owner == (found.uid, found.gid):
        return Opening(user=user, reads=now[0], writes=now[1], found=like)
    after = permitted(found.mode, owner, user)
    # What root may not write is read-only or squashes root: there, nobody is given a file.
    if now == after or not source.may(path, Want.WRITE, ROOT):
        return Opening(user=user, reads=now[0], writes=now[1], found=like)
    kind = source.file_system(path)
    # A server that squashes root lets it write all the same what everybody may write.
    if kind in TAKES_OWNERS or (kind.startswith("nfs") and not found.mode & 0o002):
        return Opening(user=user, reads=after[0], writes=after[1], found=like)
    return Opening(
        user=user,
        reads=now[0] if now[0] == after[0] else None,
        writes=now[1] if now[1] == after[1] else None,
        found=like,
        file_system=kind,
    )


def permitted(mode: int, owner: tuple[int, int], user: User) -> tuple[bool, bool]:
    """(read, read and write) by the mode bits alone, of a file with that owner."""
    if user.uid == 0:
        return True, True
    if user.uid == owner[0]:
        bits = mode >> 6
    elif owner[1] in (user.gid, *user.groups):
        bits = mode >> 3
    else:
        bits = mode
    return bool(bits & 4), bits & 6 == 6


def shut_directory(source: Source, path: str, user: User) -> str:
    """The highest directory above the path that the user may not search; "" when there is none."""
    for end in re.finditer(r"/", path):
        directory = path[: end.start()] or "/"
        try:
            if not source.may(directory, Want.EXECUTE, user):
                return directory
        except SourceError:
            return ""
    return ""


def shut_place(source: Source, path: str, user: User) -> str:
    """The directory for which the user cannot make anything at the path; "" when there is none.

    One that he may not search, or the last, which he may not write to. Raises SourceError.
    """
    directory = posixpath.dirname(path)
    shut = shut_directory(source, path, user)
    return shut or ("" if source.may(directory, Want.WRITE, user) else directory)


def runs_as(source: Source, qemu: QemuUser, guest: DacLabel) -> User:
    """Whom QEMU runs as for this guest: a static DAC label wins over qemu.conf."""
    return _labelled(source, guest.owner) or qemu.user


def given_to(
    source: Source, qemu: QemuUser, guest: DacLabel, *labels: DacLabel | None
) -> tuple[int, int] | None:
    """Whom libvirtd makes the owner of a file; None when it leaves it alone.

    Labels of the image and of the top of its chain, in this order; the first that there is counts
    (virSecurityDACSetImageLabelInternal, security/security_dac.c).
    """
    if not qemu.dynamic_ownership or not guest.relabel:
        return None
    for label in labels:
        if label is None:
            continue
        if not label.relabel:
            return None
        owner = _labelled(source, label.owner)
        if owner is not None:
            return owner.uid, owner.gid
    user = runs_as(source, qemu, guest)
    return user.uid, user.gid


def _labelled(source: Source, label: str) -> User | None:
    """`+107:+107`, `qemu:qemu` (virParseOwnershipIds, util/virutil.c)."""
    match = re.fullmatch(r"\+?([\w.-]+):\+?([\w.-]+)", label)
    return source.user(match[1], match[2]) if match else None


def stat_or_none(source: Source, path: str) -> FileStat | None:
    """None when nothing is there. Raises SourceError when that cannot be told."""
    try:
        return source.stat(path)
    except Absent:
        return None
