"""What a script learns without reading a word: the exit codes."""

from enum import IntEnum


class Exit(IntEnum):
    """Part of the treaty with scripts: these numbers stay."""

    OK = 0
    CANNOT_RUN = 1
    USAGE = 2
    CANNOT_TAKE = 3
    WARNED = 4
    CANNOT_SAY = 5
    INTERRUPTED = 130
