"""The commands of deploy/README.md, which are run as they stand there."""

from __future__ import annotations

import re

from tests.lab.machine import CHECKOUT


def commands(where: str) -> list[str]:
    """Those for one place: the blocks that are called after it."""
    page = (CHECKOUT / "deploy/README.md").read_text()
    found = re.findall(rf"^```{where}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found, where
    return found
