"""The packages of this checkout, built once a change."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.lab.machine import CHECKOUT, digest, run
from tests.lab.roots import locked, tree_digest

SOURCES = ("proto", "agent", "controller", "deploy")
SUFFIX_BY_RELEASE = {"bookworm": "deb12", "trixie": "deb13"}


def built(release: str) -> tuple[Path, ...]:
    """Those of agent, command and controller, for the release."""
    what = digest(*(tree_digest(CHECKOUT / part) for part in SOURCES))
    place = CHECKOUT / "build" / "debs" / release
    mark = place / f".of-{what}"
    place.mkdir(parents=True, exist_ok=True)
    with locked(place.parent / ".lock"):
        if not mark.exists():
            for old in (*place.glob("*.deb"), *place.glob(".of-*")):
                old.unlink()
            run(
                [CHECKOUT / "deploy" / "deb" / "build.sh", release],
                within_s=600,
                env={"DEBS": str(place), "PATH": os.environ["PATH"]},
            )
            mark.touch()
    found = tuple(sorted(place.glob(f"*~{SUFFIX_BY_RELEASE[release]}_*.deb")))
    assert len(found) == 3, f"wanted three packages for {release}, found {found}"
    return found


def older(release: str, into: Path) -> None:
    """The same as of a version 0.0.9, with a module and lines of configuration that are no more."""
    for package in built(release):
        tree = into / package.stem
        run(["dpkg-deb", "-R", package, tree])
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"\b\d+\.\d+\.\d+-1~", "0.0.9-1~", control.read_text()))
        for config in (tree / "etc/virt-preflight").glob("*.toml"):
            config.write_text(f"# As it was.\n{config.read_text()}")
        for site in tree.glob("usr/lib/virt-preflight*/lib/python*/site-packages"):
            (site / "gone.py").touch()
        run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, into])
        shutil.rmtree(tree)
