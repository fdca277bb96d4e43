"""What Prometheus is told of a controller. Imported only where metrics are wanted.

Labels come from closed sets: methods, codes, depths, verdicts, kinds of silence, the fleet's own
hosts. Ids of checks are the agents' to name: so many are told apart, and no more.
"""

from __future__ import annotations

import re
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from virt_preflight.controller.answers import (
    Begun,
    Heard,
    HostDescription,
    Late,
    Refused,
    Report,
    Silent,
    Unreached,
    Verdict,
)
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.treaty.shared_metrics import SharedMetrics

PREFIX = "virt_preflight_controller"
ANSWER_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# The agents of this version have 206 checks; whatever names more than this is no agent of ours.
CHECKS_AT_MOST = 1024
OTHER = "other"
_CHECK = re.compile(r"[a-z0-9]{1,32}\.[a-z0-9-]{1,64}", re.ASCII)
# How a host answered. The first that fits; whatever else is silent gave no answer that can be used.
KINDS: tuple[tuple[type[object], str], ...] = (
    (Heard, "heard"),
    (Late, "late"),
    (Unreached, "unreached"),
    (Refused, "refused"),
)
UNUSABLE = "unusable"
HEARD = "heard"


@dataclass(frozen=True, slots=True)
class _Last:
    """How a host answered last, and since when it does so."""

    kind: str
    heard_at_s: float | None
    facts_age_s: float | None


class Metrics(SharedMetrics):
    """Implements the observers of calls, of hosts and of dry runs."""

    def __init__(self, version: str, clock: Callable[[], float] = time.time) -> None:
        scale = [depth.value for depth in Depth], [verdict.name for verdict in Verdict]
        super().__init__(PREFIX, version, *scale)
        registry = self.registry
        self._clock = clock
        self._last: dict[str, _Last] = {}
        self._known_checks: set[str] = set()
        self._answers = Counter(
            f"{PREFIX}_host_answers",
            "What came of questions to hosts; late: a deadline was hit.",
            ("kind",),
            registry=registry,
        )
        self._answer_s = Histogram(
            f"{PREFIX}_host_answer_seconds",
            "How long hosts took, those that were given up among them.",
            ("method",),
            buckets=ANSWER_S,
            registry=registry,
        )
        self._guests = self.by_depth_and_verdict(
            "dry_runs", "Dry runs by what they came to: the best of the hosts' verdicts.", *scale
        )
        # To look one up by its labels costs more than to count, and each host's answer is counted.
        kinds = (*(kind for _, kind in KINDS), UNUSABLE)
        self._answers_by_kind = {kind: self._answers.labels(kind) for kind in kinds}
        self._answer_s_by_method: dict[str, Histogram] = {}

    def of_fleet(self, names: Callable[[], Collection[str]]) -> None:
        """From here on also which hosts there are, and how each answered last."""
        self.registry.register(_Hosts(names, self._last))

    def of_announcing(self, announcing: Callable[[], int]) -> None:
        """From here on also how many agents have a stream to us."""
        gauge = Gauge(
            f"{PREFIX}_announcing",
            "Agents that announce their hosts at this moment.",
            registry=self.registry,
        )
        gauge.set_function(announcing)

    def took(self, method: str, seconds: float) -> None:
        """See HostObserver."""
        took = self._answer_s_by_method.get(method)
        if took is None:
            name = method.rpartition("/")[2]
            took = self._answer_s_by_method[method] = self._answer_s.labels(name)
        took.observe(seconds)

    def answered(self, answer: Heard[Any] | Silent) -> None:
        """See HostObserver."""
        kind = next((kind for form, kind in KINDS if isinstance(answer, form)), UNUSABLE)
        self._answers_by_kind[kind].inc()
        before = self._last.get(answer.host)
        heard_at_s = before.heard_at_s if before else None
        age_s = before.facts_age_s if before else None
        if isinstance(answer, Heard):
            heard_at_s, told_s = self._clock(), _facts_age_s(answer.said)
            age_s = age_s if told_s is None else told_s
            if isinstance(answer.said, Report) and told_s is not None:
                self._facts_age.observe(told_s)
        self._last[answer.host] = _Last(kind, heard_at_s, age_s)

    def concluded(self, run: DryRun) -> None:
        """See DryRunObserver."""
        self._guests.labels(run.depth.value, run.verdict.name).inc()
        verdicts: Tally[tuple[str, str]] = Tally()
        findings: Tally[tuple[str, str]] = Tally()
        unanswered: Tally[str] = Tally()
        for one in run.candidates:
            verdicts[one.depth.value if one.depth else "", one.verdict.name] += 1
            findings.update((found.check, found.severity.name) for found in one.findings)
            unanswered.update(left.check for left in one.unanswered)
        for (depth, verdict), count in verdicts.items():
            self._verdicts.labels(depth, verdict).inc(count)
        for (check, severity), count in findings.items():
            self._findings.labels(self._told_apart(check), severity).inc(count)
        for check, count in unanswered.items():
            self._unanswered.labels(self._told_apart(check)).inc(count)

    def _told_apart(self, check: str) -> str:
        if check not in self._known_checks:
            if len(self._known_checks) >= CHECKS_AT_MOST or not _CHECK.fullmatch(check):
                return OTHER
            self._known_checks.add(check)
        return check


def _facts_age_s(said: object) -> float | None:
    match said:
        case Report() | HostDescription():
            return said.facts_age_ms / 1000
        case Begun():
            return said.report.facts_age_ms / 1000
        case _:
            return None


class _Hosts(Collector):
    """Looked up when somebody asks for it; hosts that have left the fleet are forgotten."""

    def __init__(self, names: Callable[[], Collection[str]], last: dict[str, _Last]) -> None:
        self._names = names
        self._last = last

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """How many there are, who was silent when last asked, and how old is what is known."""
        names = sorted(self._names())
        for gone in set(self._last) - set(names):
            self._last.pop(gone, None)
        last = {name: found for name in names if (found := self._last.get(name)) is not None}
        known = GaugeMetricFamily(f"{PREFIX}_hosts", "Hosts of the fleet.")
        known.add_metric((), len(names))
        yield known
        yield _family(
            "hosts_by_last_answer",
            "Hosts by how they answered last; those that were not asked yet are not among them.",
            ("kind",),
            Tally(found.kind for found in last.values()),
        )
        yield _family(
            "host_silent",
            "1 for each host that gave no answer when it was last asked.",
            ("host", "kind"),
            {(name, it.kind): 1 for name, it in last.items() if it.kind != HEARD},
        )
        heard = {name: it.heard_at_s for name, it in last.items() if it.heard_at_s is not None}
        yield _family(
            "host_last_heard_timestamp_seconds", "When a host last answered.", ("host",), heard
        )
        ages = {name: it.facts_age_s for name, it in last.items() if it.facts_age_s is not None}
        yield _family(
            "host_facts_age_seconds",
            "How old a host's oldest fact was when it last answered.",
            ("host",),
            ages,
        )


def _family(
    name: str,
    means: str,
    labels: tuple[str, ...],
    values: Mapping[Any, float],
) -> GaugeMetricFamily:
    """Of one label the keys are its values, of several they are tuples of them."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", means, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key if isinstance(key, tuple) else (key,), value)
    return family
