"""Prometheus' own tool for its files: of this machine, or taken out of Debian's package.

The package would start a Prometheus where it is installed; so it is unpacked and no more.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.machine import LabError, attempt, cache, run


class NoPromtool(Exception):
    """There is none, and none can be had. Says why."""


def promtool() -> Path:
    """Where it is. Raises NoPromtool."""
    if found := shutil.which("promtool"):
        return Path(found)
    kept = cache().parent / "promtool" / "promtool"
    if not kept.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise NoPromtool("no promtool here, and no apt-get to have it by")
        try:
            _unpack(kept)
        except LabError as error:
            raise NoPromtool(str(error)) from error
    return kept


def _unpack(kept: Path) -> None:
    with TemporaryDirectory(prefix="vp-") as place:
        fetch = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "prometheus"]
        if attempt(fetch, within_s=300, cwd=Path(place)).code != 0:
            if os.geteuid() != 0:
                raise LabError("apt-get knows no package prometheus, and only root may update it")
            run(["apt-get", "update", "-q"], within_s=300)
            run(fetch, within_s=300, cwd=Path(place))
        (package,) = Path(place).glob("prometheus_*.deb")
        run(["dpkg-deb", "-x", package, f"{place}/unpacked"], within_s=120)
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: another run may look for it meanwhile.
        half = kept.with_name(f".half-{os.getpid()}")
        shutil.copy(Path(place) / "unpacked/usr/bin/promtool", half)
        half.rename(kept)
