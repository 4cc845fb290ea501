"""A site's metrics, each with a release class.

`public` facts (lifecycle, budgets) and `dp` ones (already noised and charged) may be scraped from
outside the vault. `local` ones depend on records, if only through the time a step takes, and are
shown to a person at the site alone. What must stay true: a metric without a class cannot be made.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sordino_client.ledger import Balance
from sordino_protocols.messages import Refusal
from sordino_protocols.privacy import Event, mechanism


class ReleaseClass(StrEnum):
    """Who may see a metric."""

    PUBLIC = "public"
    DP = "dp"
    LOCAL = "local"


class SiteMetrics:
    """The vault's metrics, in one registry a release class."""

    def __init__(self) -> None:
        self.registries = {each: CollectorRegistry() for each in ReleaseClass}
        public = self.registries[ReleaseClass.PUBLIC]
        local = self.registries[ReleaseClass.LOCAL]
        build = Gauge(
            "sordino_build_info",
            "Versions that run here.",
            ["version", "python", "torch", "component"],
            registry=public,
        )
        build.labels(version("sordino"), platform.python_version(), version("torch"), "vault").set(
            1
        )
        self._charges = Counter(
            "sordino_privacy_charges_total",
            "Charges to the ledger.",
            ["dataset", "mechanism", "result"],
            registry=public,
        )
        self._refusals = Counter(
            "sordino_privacy_refusals_total", "Requests refused.", ["rule"], registry=public
        )
        for refusal in Refusal:
            self._refusals.labels(refusal.value)
        self._fsync = Histogram(
            "sordino_ledger_fsync_seconds",
            "Time the disk took for one entry of the ledger.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
            registry=public,
        )
        self._step = Histogram(
            "sordino_train_step_seconds",
            "Time to make one release; depends on the records.",
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
            registry=local,
        )

    def watch_budgets(self, read: Callable[[], dict[str, Balance]]) -> None:
        """Show budgets as they are when somebody looks."""
        self.registries[ReleaseClass.PUBLIC].register(_Budgets(read))

    def watch_ledger(self, length: Callable[[], int]) -> None:
        """Show the number of ledger entries as it is when somebody looks."""
        gauge = Gauge(
            "sordino_ledger_entries",
            "Entries in the ledger.",
            registry=self.registries[ReleaseClass.PUBLIC],
        )
        gauge.set_function(lambda: float(length()))

    def watch_policy(self, sha256: Callable[[], str | None]) -> None:
        """Show which policy counts when somebody looks; none while there is none."""
        self.registries[ReleaseClass.PUBLIC].register(_PolicyInfo(sha256))

    def watch_people(self, *, halted: Callable[[], bool], waiting: Callable[[], int]) -> None:
        """Show what people have to do, as it is when somebody looks."""
        public = self.registries[ReleaseClass.PUBLIC]
        stopped = Gauge(
            "sordino_ledger_halted", "1 while the ledger waits to be recovered.", registry=public
        )
        stopped.set_function(lambda: float(halted()))
        asked = Gauge("sordino_approvals_waiting", "Runs that wait for a person.", registry=public)
        asked.set_function(lambda: float(waiting()))

    def watch_self_test(self, is_tested: Callable[[], bool]) -> None:
        """Show whether the code passed its self-test, as it is when somebody looks."""
        gauge = Gauge(
            "sordino_self_test_success",
            "1 while the code that lies on the disk passed its self-test at this site.",
            registry=self.registries[ReleaseClass.PUBLIC],
        )
        gauge.set_function(lambda: float(is_tested()))

    def fsynced(self, seconds: float) -> None:
        """Count how long the disk took for one entry of the ledger."""
        self._fsync.observe(seconds)

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal."""
        self._refusals.labels(refusal.value).inc()

    @contextmanager
    def charging(self, dataset: str, event: Event) -> Iterator[None]:
        """Count a charge."""
        result = "failed"
        try:
            yield
            result = "charged"
        finally:
            self._charges.labels(dataset, mechanism(event), result).inc()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Time the making of a release: a local fact."""
        with self._step.time():
            yield

    def text(self, classes: tuple[ReleaseClass, ...]) -> str:
        """The metrics of these classes in Prometheus' text format."""
        return "".join(generate_latest(self.registries[each]).decode() for each in classes)


class _Budgets(Collector):
    def __init__(self, read: Callable[[], dict[str, Balance]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "sordino_privacy_budget_epsilon",
            "Lifetime budget of a data set, by the Rényi filter.",
            labels=["dataset", "kind"],
        )
        for dataset, balance in self._read().items():
            for kind, value in (
                ("limit", balance.limit),
                ("spent", balance.spent),
                ("reserved", balance.held),
                ("remaining", balance.left),
            ):
                family.add_metric([dataset, kind], value)
        yield family


class _PolicyInfo(Collector):
    def __init__(self, sha256: Callable[[], str | None]) -> None:
        self._sha256 = sha256

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "sordino_policy_info", "The policy that counts.", labels=["policy_sha256"]
        )
        sha256 = self._sha256()
        if sha256 is not None:
            family.add_metric([sha256], 1.0)
        yield family
