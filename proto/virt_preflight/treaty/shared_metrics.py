"""The metrics that agent and controller have alike: of calls that they answer, and of verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# From what is known a question is answered in a few ms; a rehearsal takes seconds.
QUESTION_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Moving facts are learned again after 1 s, the others after 60 s.
AGE_S = (0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 120.0, 300.0)


class SharedMetrics:
    """Implements CallObserver."""

    def __init__(
        self, prefix: str, version: str, depths: Iterable[str], verdicts: Iterable[str]
    ) -> None:
        self._prefix = prefix
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace=prefix, registry=registry)
        built = Gauge(f"{prefix}_build_info", "Always 1.", ("version",), registry=registry)
        built.labels(version).set(1)
        self._questions = Counter(
            f"{prefix}_questions",
            "Calls that were answered or refused, by gRPC's code.",
            ("method", "code"),
            registry=registry,
        )
        self._took = Histogram(
            f"{prefix}_question_seconds",
            "How long a call took, by its depth where it has one.",
            ("method", "depth"),
            buckets=QUESTION_S,
            registry=registry,
        )
        self._under_way = Gauge(
            f"{prefix}_questions_under_way",
            "Calls that are being answered.",
            ("method",),
            registry=registry,
        )
        self._verdicts = self.by_depth_and_verdict(
            "verdicts",
            "Verdicts on one guest on one host, silent ones among them, by the depth reached.",
            depths,
            verdicts,
        )
        self._findings = Counter(
            f"{prefix}_findings",
            "What checks found, for each verdict, whether waived or not.",
            ("check", "severity"),
            registry=registry,
        )
        self._unanswered = Counter(
            f"{prefix}_unanswered",
            "Checks that could not tell, for each verdict.",
            ("check",),
            registry=registry,
        )
        self._facts_age = Histogram(
            f"{prefix}_report_facts_age_seconds",
            "Age of the oldest fact that a host's report rests on.",
            buckets=AGE_S,
            registry=registry,
        )

    def by_depth_and_verdict(
        self, name: str, means: str, depths: Iterable[str], verdicts: Iterable[str]
    ) -> Counter:
        """With each of them from the beginning: so the first is a rise, not a new series."""
        counter = Counter(
            f"{self._prefix}_{name}", means, ("depth", "verdict"), registry=self.registry
        )
        for depth, verdict in product(depths, verdicts):
            counter.labels(depth, verdict)
        return counter

    def of_certificate(self, ends: Callable[[], datetime]) -> None:
        """From here on also when the certificate that this side answers with runs out."""
        gauge = Gauge(
            f"{self._prefix}_certificate_expiry_timestamp_seconds",
            "When the certificate in use runs out.",
            registry=self.registry,
        )
        gauge.set_function(lambda: ends().timestamp())

    def began(self, method: str) -> None:
        """See CallObserver."""
        self._under_way.labels(method).inc()

    def ended(self, method: str, depth: str, code: str, seconds: float) -> None:
        """See CallObserver."""
        self._under_way.labels(method).dec()
        self._questions.labels(method, code).inc()
        self._took.labels(method, depth).observe(seconds)
