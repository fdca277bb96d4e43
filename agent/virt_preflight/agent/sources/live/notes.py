"""Where an agent notes what it is about to play, for the one after it should it be killed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from virt_preflight.agent.sources import Unreadable

# Gone at a reboot, as is all that an act could have left running.
FOLDER = Path("/run/virt-preflight")


def new_note(name: str) -> int:
    """An empty note, opened to be written. Raises OSError, Unreadable; FileExistsError if it is."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    # Nobody else's folder: what stands there is acted upon by a later agent.
    found = os.lstat(FOLDER)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Unreadable(f"{FOLDER} is no folder of our own")
    return os.open(place_of(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def place_of(name: str) -> Path:
    """Where the note of that name is, or would be."""
    return FOLDER / name


def notes_called(beginning: str) -> list[Path]:
    """Those of that kind, of acts under way among them."""
    return sorted(FOLDER.glob(f"{beginning}*"))
