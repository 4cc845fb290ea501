"""A site's metrics: one registry a release class, so that no class is told with another.

What must stay true: every instrument comes from the table in `sordino_protocols.metrics`, which
gives it its class, and lies in that class' registry; series by run are there only while the run is.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sordino_client.books import Balance, RunCost
from sordino_client.training.tally import Tally
from sordino_protocols.errors import SordinoError
from sordino_protocols.job import read_job
from sordino_protocols.messages import Admit, Describe, Inquire, Message, Refusal
from sordino_protocols.metrics import (
    METRICS,
    MetricFacts,
    ReadCollector,
    ReleaseClass,
    counter_family,
    gauge_family,
    make_counter,
    make_gauge,
    make_histogram,
)
from sordino_protocols.privacy import Event, Mechanism, mechanism

NO_DATASET = ""
"""The label of what concerns none of this site's data sets."""

OUTSIDE_CLASSES = (ReleaseClass.PUBLIC, ReleaseClass.DP)
"""What may leave the vault."""

ALL_CLASSES = tuple(ReleaseClass)
"""What a person at the site may see."""

_CHARGES = "sordino_privacy_charges_total"
_REFUSALS = "sordino_privacy_refusals_total"
_FSYNC = "sordino_ledger_fsync_seconds"
_STEP = "sordino_train_step_seconds"
_BATCH = "sordino_train_batch_records"
_CLIPPED = "sordino_train_clip_fraction_ratio"
_LOSS = "sordino_train_loss"


class SiteMetrics:
    """The vault's metrics."""

    def __init__(self) -> None:
        self.registries = {each: CollectorRegistry() for each in ReleaseClass}
        build = make_gauge("sordino_build_info", self._registry("sordino_build_info"))
        packages = [version(name) for name in ("torch", "opacus", "flwr")]
        build.labels(version("sordino"), platform.python_version(), *packages).set(1)
        self._charges = make_counter(_CHARGES, self._registry(_CHARGES))
        self._refusals = make_counter(_REFUSALS, self._registry(_REFUSALS))
        self._fsync = make_histogram(_FSYNC, self._registry(_FSYNC))
        self._step = make_histogram(_STEP, self._registry(_STEP))
        self._batch = make_gauge(_BATCH, self._registry(_BATCH))
        self._clipped = make_gauge(_CLIPPED, self._registry(_CLIPPED))
        self._loss = make_gauge(_LOSS, self._registry(_LOSS))
        self._training: set[str] = set()
        self._datasets: set[str] = set()
        self._dataset_of: Callable[[str], str | None] = lambda _: None
        self._expect((NO_DATASET,))

    def watch_requests(
        self, datasets: Iterable[str], dataset_of: Callable[[str], str | None]
    ) -> None:
        """Count by data set: all of them from 0, for a rate needs a beginning.

        Args:
            datasets: this site's. No other name becomes a label: a job may be about anything.
            dataset_of: the data set of a run that was let in, by the run's id.
        """
        self._dataset_of = dataset_of
        self._expect(datasets)

    def _expect(self, datasets: Iterable[str]) -> None:
        for dataset in datasets:
            self._datasets.add(dataset)
            for refusal in Refusal:
                self._refusals.labels(dataset, refusal.value)
            if dataset != NO_DATASET:
                for name in get_args(Mechanism):
                    for result in ("charged", "failed"):
                        self._charges.labels(dataset, name, result)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Show a gauge or counter without labels as it is when somebody looks."""
        facts = METRICS[name]

        def families() -> Iterator[Metric]:
            is_counter = facts.name.endswith("_total")
            family = counter_family(name) if is_counter else gauge_family(name)
            family.add_metric([], read())
            yield family

        self._register(facts, ReadCollector(families))

    def watch_budgets(self, read: Callable[[], dict[str, Balance]]) -> None:
        """Show budgets as they are when somebody looks."""
        name = "sordino_privacy_budget_epsilon"
        self._register(METRICS[name], ReadCollector(lambda: _budgets(name, read())))

    def watch_runs(self, site: str, read: Callable[[], Sequence[RunCost]]) -> None:
        """Show what running jobs have spent and may spend as it is when somebody looks."""
        facts = METRICS["sordino_run_epsilon_spent"]
        self._register(facts, ReadCollector(lambda: _runs(site, read())))

    def watch_policy(self, sha256: Callable[[], str | None]) -> None:
        """Show which policy counts when somebody looks; none while there is none."""
        self._register(METRICS["sordino_policy_info"], ReadCollector(lambda: _policy(sha256())))

    def fsynced(self, seconds: float) -> None:
        """Count how long the disk took for one entry of the ledger."""
        self._fsync.observe(seconds)

    def refused(self, refusal: Refusal, message: Message | None = None) -> None:
        """Count a refusal.

        Args:
            refusal: what the outside was told.
            message: what was asked; None where it could not be read.
        """
        # What nobody trusted has signed is not read for the sake of a label.
        is_read = message is not None and refusal is not Refusal.UNAUTHENTICATED
        asked_for = self._asked_for(message) if message is not None and is_read else None
        dataset = asked_for if asked_for in self._datasets else None
        self._refusals.labels(dataset or NO_DATASET, refusal.value).inc()

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
    def training(self, run_id: str) -> Iterator[None]:
        """Time the making of a release: a local fact."""
        self._training.add(run_id)
        with self._step.labels(run_id).time():
            yield

    def tallied(self, run_id: str, tally: Tally) -> None:
        """Show what a run's newest batch looked like: local facts."""
        self._training.add(run_id)
        self._batch.labels(run_id).set(tally.units)
        self._clipped.labels(run_id).set(tally.clipped_share)
        if tally.loss is not None:
            self._loss.labels(run_id).set(tally.loss)

    def forget(self, run_id: str) -> None:
        """A run is over: nothing more is shown of it."""
        if run_id in self._training:
            self._training.discard(run_id)
            for each in (self._step, self._batch, self._clipped, self._loss):
                with suppress(KeyError):  # not every release has all of them
                    each.remove(run_id)

    def text(self, classes: tuple[ReleaseClass, ...]) -> str:
        """The metrics of these classes in Prometheus' text format."""
        return "".join(generate_latest(self.registries[each]).decode() for each in classes)

    def _asked_for(self, message: Message) -> str | None:
        """The data set that a request is about, in the asker's own words; None without one."""
        try:
            if isinstance(message, Describe | Inquire | Admit):
                return read_job(message.job.body).file.job.dataset
            return self._dataset_of(message.run_id)
        except (SordinoError, OSError):
            return None

    def _registry(self, name: str) -> CollectorRegistry:
        return self.registries[METRICS[name].release]

    def _register(self, facts: MetricFacts, collector: Collector) -> None:
        self.registries[facts.release].register(collector)


def _budgets(name: str, balances: dict[str, Balance]) -> Iterator[Metric]:
    family = gauge_family(name)
    for dataset, balance in balances.items():
        for kind, value in (
            ("limit", balance.limit),
            ("spent", balance.spent),
            ("reserved", balance.held),
            ("remaining", balance.left),
        ):
            family.add_metric([dataset, kind], value)
    yield family


def _runs(site: str, costs: Iterable[RunCost]) -> Iterator[Metric]:
    spent = gauge_family("sordino_run_epsilon_spent")
    planned = gauge_family("sordino_run_epsilon_planned")
    for each in costs:
        spent.add_metric([each.run_id, site], each.spent)
        planned.add_metric([each.run_id, site], each.planned)
    yield from (spent, planned)


def _policy(sha256: str | None) -> Iterator[Metric]:
    family = gauge_family("sordino_policy_info")
    if sha256 is not None:
        family.add_metric([sha256], 1.0)
    yield family
