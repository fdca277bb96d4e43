"""The verdict against what libvirt did: real guests moved and started between real hosts.

Two hosts with libvirt 9.0 and QEMU 7.2, two with libvirt 11.3 and QEMU 10.0, one of each with a KVM
that lacks clwb (and all with a nested KVM that lacks much more). `cpu` is the guest's live CPU, or
for a cold start the one in its definition; `said` is libvirt's error, empty where it went well.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.cpu import (
    GuestCpu,
    HostCpu,
    KnownCpus,
    KnownModel,
    features_absent,
    features_extra,
    features_unknown,
    forbidden_features,
    guest_cpu,
    mode_unsupported,
    model_unknown,
    vendor_differs,
)
from virt_preflight.agent.families.machine import CpuModel, SeenCapabilities
from virt_preflight.agent.report import Severity

TRUTH = json.loads((Path(__file__).parent / "cpu_truth.json").read_text())
CASES = TRUTH["cases"]


def known(host: dict[str, Any]) -> KnownCpus:
    return KnownCpus(
        feature_names=frozenset(TRUTH["feature_names"][host["libvirt"]]),
        model_by_name={
            name: KnownModel(
                features=frozenset(model["features"]),
                removed=frozenset(model["removed"]),
                added=frozenset(model["added"]),
                compares_loosely=model["compares_loosely"],
            )
            for name, model in host["models"].items()
        },
    )


def seen(host: dict[str, Any]) -> SeenCapabilities:
    offers = {
        name: CpuModel(
            usable=offer["usable"],
            blockers=None if offer["blockers"] is None else frozenset(offer["blockers"]),
        )
        for name, offer in host["offers"].items()
    }
    if host["names_blockers"]:
        offers["another"] = CpuModel(usable="no", blockers=frozenset({"hle"}))
    return SeenCapabilities(
        emulator="",
        architecture="x86_64",
        machine="pc-q35-7.2",
        virt_type="",
        vcpus_maximum=None,
        supported={},
        values={},
        cpu_mode_supported=host["modes"],
        host_model=None,
        cpu_model_by_name=offers,
    )


def answers(case: dict[str, Any]) -> tuple[GuestCpu, list[Problem], list[CouldNotTell]]:
    """What the checks say: blockers, and what they leave open."""
    told = TRUTH["hosts"][case["host"]]
    virt_type = case["host"].partition("-")[2]
    guest = guest_cpu(
        read_domain(f"<domain type='{virt_type}'><name>g</name>{case['cpu']}</domain>")
    )
    assert guest is not None
    names, offers = known(told), seen(told)
    host = HostCpu(
        model=told["model"],
        vendor=told["vendor"],
        offered=frozenset(told["offered"]),
        physical=frozenset(told["physical"]),
    )
    blockers: list[Problem] = []
    left_open: list[CouldNotTell] = []
    for check, found in (
        (mode_unsupported, mode_unsupported(guest, offers)),
        (model_unknown, model_unknown(guest, offers, names)),
        (features_unknown, features_unknown(guest, names)),
        (features_absent, features_absent(guest, offers, names, host)),
        (features_extra, features_extra(guest, names)),
        (forbidden_features, forbidden_features(guest, host)),
        (vendor_differs, vendor_differs(guest, offers, names, host)),
    ):
        for yielded in found:
            if isinstance(yielded, CouldNotTell):
                left_open.append(yielded)
            elif (yielded.severity or check.severity) is Severity.BLOCKER:
                blockers.append(yielded)
    return guest, blockers, left_open


@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_what_libvirt_refuses_is_blocked_and_nothing_else(case: dict[str, Any]) -> None:
    _, blockers, left_open = answers(case)
    assert bool(blockers) == bool(case["said"]), (case["said"], blockers, left_open)


# Of cold starts libvirt's sentence is kept shortened.
RUNNING = [case for case in CASES if not case["what"].startswith("cold")]
MISSED = [case for case in RUNNING if ": missing features: " in case["said"]]


@pytest.mark.parametrize("case", MISSED, ids=[case["what"] for case in MISSED])
def test_the_missing_features_are_those_that_libvirt_names(case: dict[str, Any]) -> None:
    guest, blockers, _ = answers(case)
    named = re.search(r": missing features: (\S+)", case["said"])
    assert named is not None
    assert [set(problem.wanted.split(", ")) for problem in blockers] == [set(named[1].split(","))]
    assert guest.check == "full"


def test_running_guests_are_hardly_ever_left_open() -> None:
    left_open = [case["what"] for case in RUNNING if answers(case)[2]]
    assert len(RUNNING) > 60
    assert all(what.startswith("pentium3-forbid") for what in left_open)
