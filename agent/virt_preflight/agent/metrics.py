"""What Prometheus is told of an agent. Imported only where metrics are wanted.

Labels come from our own closed sets alone: methods, codes, depths, verdicts, ids of checks,
families, kinds of what is asked. No guest, no path and no word of a caller is ever one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from virt_preflight.agent.depth import Depth
from virt_preflight.agent.report import Report, Verdict
from virt_preflight.agent.sources.observer import Failed, GivenUp
from virt_preflight.treaty.shared_metrics import SharedMetrics

PREFIX = "virt_preflight_agent"
# libvirt answers from memory in a few ms; the longest that it is waited for is 12 s.
LIBVIRT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 12.0)
# The deputy looks at a file in a fraction of a ms; for qemu-img it has 10.5 s.
DEPUTY_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 12.0)
# What is asked, by how its name begins; what is none of these is another machine on the network.
KINDS = (
    ("libvirtd about guest ", "libvirtd-about-guest"),
    ("libvirtd", "libvirtd"),
    ("/", "storage"),
    ("the deputy", "deputy"),
    ("the janitor", "janitor"),
    ("the user database", "users"),
    ("the trial of ", "trial"),
    ("the rehearsal of ", "rehearsal"),
)
ELSEWHERE = "network"


def kind_of(whom: Hashable) -> str:
    """What kind of thing that is, without its name."""
    return next((kind for begins, kind in KINDS if str(whom).startswith(begins)), ELSEWHERE)


class Metrics(SharedMetrics):
    """Implements the observers of calls, of reports and of sources."""

    def __init__(self, version: str) -> None:
        super().__init__(
            PREFIX,
            version,
            [depth.spoken for depth in Depth],
            [verdict.name for verdict in Verdict],
        )
        registry = self.registry
        self._libvirt = Histogram(
            f"{PREFIX}_libvirt_call_seconds",
            "How long libvirt took to answer a question, be it after nobody waited any more.",
            ("call",),
            buckets=LIBVIRT_S,
            registry=registry,
        )
        self._deputy = Histogram(
            f"{PREFIX}_deputy_call_seconds",
            "How long the deputy took, and the way to it, be it after nobody waited any more.",
            ("call",),
            buckets=DEPUTY_S,
            registry=registry,
        )
        self._deputy_failures = Counter(
            f"{PREFIX}_deputy_failures",
            "Questions to the deputy that brought nothing; those not answered in time: given_up.",
            ("why",),
            registry=registry,
        )
        self._given_up = Counter(
            f"{PREFIX}_given_up",
            "Questions to parts of the host that were not answered in time, or not put.",
            ("whom", "why"),
            registry=registry,
        )
        self._hanging = Gauge(
            f"{PREFIX}_hanging",
            "Parts of the host that have not answered and are not asked meanwhile.",
            ("whom",),
            registry=registry,
        )
        for failed in Failed:
            self._deputy_failures.labels(failed.value)
        for kind in (*(kind for _, kind in KINDS), ELSEWHERE):
            self._hanging.labels(kind)
            for why in GivenUp:
                self._given_up.labels(kind, why.value)

    def of_facts(self, ages_s: Callable[[], Mapping[str, float]]) -> None:
        """From here on also the age of what is known, by family."""
        self.registry.register(_Ages(ages_s))

    def reported(self, report: Report) -> None:
        """See ReportObserver."""
        self._verdicts.labels(report.depth.spoken, report.verdict.name).inc()
        self._facts_age.observe(report.facts_age_s)
        for one in report.findings:
            self._findings.labels(one.check, one.severity.name).inc()
        for left in report.unanswered:
            self._unanswered.labels(left.check).inc()

    def libvirt_answered(self, question: str, seconds: float) -> None:
        """See SourceObserver."""
        self._libvirt.labels(question).observe(seconds)

    def deputy_answered(self, call: str, seconds: float, failed: Failed | None) -> None:
        """See SourceObserver."""
        self._deputy.labels(call).observe(seconds)
        if failed is not None:
            self._deputy_failures.labels(failed.value).inc()

    def given_up(self, whom: Hashable, why: GivenUp) -> None:
        """See SourceObserver."""
        kind = kind_of(whom)
        self._given_up.labels(kind, why.value).inc()
        if why is GivenUp.NO_ANSWER:
            self._hanging.labels(kind).inc()

    def came_back(self, whom: Hashable) -> None:
        """See SourceObserver."""
        self._hanging.labels(kind_of(whom)).dec()


class _Ages(Collector):
    """Looked up when somebody asks for it."""

    def __init__(self, ages_s: Callable[[], Mapping[str, float]]) -> None:
        self._ages_s = ages_s

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The oldest fact of each family."""
        family = GaugeMetricFamily(
            f"{PREFIX}_facts_age_seconds",
            "Age of the oldest fact that is kept; facts are learned anew when they are asked for.",
            labels=("family",),
        )
        for name, age_s in sorted(self._ages_s().items()):
            family.add_metric((name,), age_s)
        yield family
