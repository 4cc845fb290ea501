"""Every metric of ours, in one table: name, kind, labels, who may see it, and who serves it.

What must stay true: nothing is measured that is not in `METRICS`, because families and instruments
are made here and nowhere else; and each has one release class. `public` facts (lifecycle, budgets)
and `dp` ones (already noised and charged) may be scraped. `local` ones depend on records, if only
through the time a step takes, and are shown to a person at the site alone. `docs/metrics.md` says
the same to people, and a test compares the two.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector


class ReleaseClass(StrEnum):
    """Who may see a metric."""

    PUBLIC = "public"
    DP = "dp"
    LOCAL = "local"


class MetricKind(StrEnum):
    """What a metric is to Prometheus."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Place(StrEnum):
    """Which process serves a metric; the link hands on what the vault serves."""

    SERVER = "server"
    LINK = "link"
    VAULT = "vault"


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """What is fixed of a metric.

    Attributes:
        name: as it is scraped; a counter's ends in `_total`.
        kind: gauge, counter or histogram.
        labels: names of its labels, in order.
        release: who may see it.
        places: who serves it.
        text: what it says, for people.
        buckets: upper bounds of a histogram's buckets, without infinity.
    """

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    release: ReleaseClass
    places: frozenset[Place]
    text: str
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        is_named_so = self.name.endswith("_total")
        if is_named_so != (self.kind is MetricKind.COUNTER):
            raise ValueError(f"{self.name}: counters end in _total, and nothing else does")
        if bool(self.buckets) != (self.kind is MetricKind.HISTOGRAM):
            raise ValueError(f"{self.name}: histograms have buckets, and nothing else does")


_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_FSYNC_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_STEP_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

_SERVER = frozenset({Place.SERVER})
_LINK = frozenset({Place.LINK})
_VAULT = frozenset({Place.VAULT})
_HOSTS = _SERVER | _LINK


def _gauge(
    name: str,
    labels: str,
    places: frozenset[Place],
    text: str,
    release: ReleaseClass = ReleaseClass.PUBLIC,
) -> MetricFacts:
    return MetricFacts(name, MetricKind.GAUGE, tuple(labels.split()), release, places, text)


def _counter(name: str, labels: str, places: frozenset[Place], text: str) -> MetricFacts:
    release = ReleaseClass.PUBLIC
    return MetricFacts(name, MetricKind.COUNTER, tuple(labels.split()), release, places, text)


def _histogram(
    name: str,
    labels: str,
    places: frozenset[Place],
    text: str,
    *,
    buckets: tuple[float, ...],
    release: ReleaseClass = ReleaseClass.PUBLIC,
) -> MetricFacts:
    kind = MetricKind.HISTOGRAM
    return MetricFacts(name, kind, tuple(labels.split()), release, places, text, buckets)


_TABLE = (
    # ------------------------------------------------------------------ every daemon
    _gauge(
        "sordino_build_info",
        "version python torch opacus flwr",
        _SERVER | _VAULT,
        "Versions that run here.",
    ),
    _gauge("sordino_ready", "check", _HOSTS, "1 while a check of /readyz passes."),
    _gauge(
        "sordino_cert_not_after_timestamp_seconds",
        "role",
        _HOSTS,
        "When a TLS certificate that is in use here ends.",
    ),
    # ------------------------------------------------------------------ the server: sites, runs
    _gauge("sordino_site_connected", "site", _SERVER, "Whether a site's link is connected."),
    _gauge(
        "sordino_site_last_seen_timestamp_seconds",
        "site",
        _SERVER,
        "When a site's link was last heard of; absent before the first time.",
    ),
    _gauge(
        "sordino_site_contradicts",
        "site record",
        _SERVER,
        "1 while a site's ledger or audit log contradicts what it showed before, unexplained.",
    ),
    _gauge("sordino_runs", "state", _SERVER, "Runs by state."),
    _counter("sordino_runs_total", "outcome reason", _SERVER, "Runs that are over."),
    _gauge("sordino_run_round", "run_id", _SERVER, "Rounds done of a run that trains."),
    _gauge("sordino_run_rounds_planned", "run_id", _SERVER, "Rounds planned."),
    _gauge(
        "sordino_run_epsilon_spent",
        "run_id site",
        _SERVER | _VAULT,
        "Epsilon that a site has spent on a run: by PLD at the server, by Rényi at the site.",
    ),
    _gauge(
        "sordino_run_epsilon_planned",
        "run_id site",
        _SERVER | _VAULT,
        "Epsilon of the whole run at a site: by PLD at the server, by Rényi at the site.",
    ),
    _gauge("sordino_run_quorum", "run_id", _SERVER, "Sites without which a run fails."),
    _gauge("sordino_run_sites_connected", "run_id", _SERVER, "Sites of a run that are connected."),
    _histogram(
        "sordino_round_duration_seconds",
        "phase",
        _SERVER,
        "Time that one question to the sites took, waiting included.",
        buckets=_SECONDS,
    ),
    _gauge(
        "sordino_round_participants",
        "run_id status",
        _SERVER,
        "Sites of a run by what they did in its last round.",
    ),
    _gauge(
        "sordino_round_last_progress_timestamp_seconds",
        "run_id",
        _SERVER,
        "When a run last got further.",
    ),
    _counter(
        "sordino_updates_total", "site result", _SERVER, "Answers to rounds by what became of them."
    ),
    _gauge(
        "sordino_eval_metric",
        "run_id metric",
        _SERVER,
        "Noisy evaluation of a run's model.",
        ReleaseClass.DP,
    ),
    _counter("sordino_auth_failures_total", "kind", _SERVER, "Callers who were not let in."),
    # ------------------------------------------------------------------ the server: audits
    _gauge(
        "sordino_audit_verdict", "model verdict", _SERVER, "1 for the verdict of the newest audit."
    ),
    _gauge(
        "sordino_audit_epsilon_lower_bound",
        "model test assumption",
        _SERVER,
        "What an audit showed of a model's epsilon, at the audit's confidence.",
    ),
    _gauge("sordino_audit_epsilon_claimed", "model", _SERVER, "Epsilon that a model claims."),
    _gauge(
        "sordino_audit_e_value",
        "model site test",
        _SERVER,
        "Evidence against a site's claim, over all its runs: 20 is suspect, 1000 a violation.",
    ),
    _gauge(
        "sordino_audit_last_success_timestamp_seconds",
        "model",
        _SERVER,
        "When a model's newest audit came to a verdict, whichever.",
    ),
    _gauge("sordino_audit_duration_seconds", "model", _SERVER, "Time that the newest audit took."),
    _gauge(
        "sordino_models_quarantined", "", _SERVER, "Runs whose model is withheld after an audit."
    ),
    # ------------------------------------------------------------------ the link
    _gauge("sordino_link_connected", "", _LINK, "1 while this site is active at the server."),
    _gauge("sordino_link_vault_up", "", _LINK, "1 while the vault answers on its socket."),
    _counter("sordino_link_messages_total", "result", _LINK, "Messages by what became of them."),
    # ------------------------------------------------------------------ the vault
    _gauge("sordino_policy_info", "policy_sha256", _VAULT, "The policy that counts."),
    _gauge(
        "sordino_privacy_budget_epsilon",
        "dataset kind",
        _VAULT,
        "Lifetime budget of a data set, by the Rényi filter.",
    ),
    _counter(
        "sordino_privacy_charges_total",
        "dataset mechanism result",
        _VAULT,
        "Charges to the ledger.",
    ),
    _counter(
        "sordino_privacy_refusals_total",
        "dataset rule",
        _VAULT,
        "Requests refused; without a data set where none of this site's was named.",
    ),
    _counter("sordino_ledger_entries_total", "", _VAULT, "Entries in the ledger."),
    _gauge(
        "sordino_ledger_verify_success", "", _VAULT, "1 while the ledger's chain was found whole."
    ),
    _gauge("sordino_ledger_halted", "", _VAULT, "1 while the ledger waits to be recovered."),
    _histogram(
        "sordino_ledger_fsync_seconds",
        "",
        _VAULT,
        "Time the disk took for one entry of the ledger.",
        buckets=_FSYNC_SECONDS,
    ),
    _gauge("sordino_approvals_waiting", "", _VAULT, "Runs that wait for a person."),
    _gauge(
        "sordino_self_test_success",
        "",
        _VAULT,
        "1 while the code that lies on the disk passed its self-test at this site.",
    ),
    _counter(
        "sordino_trainer_restarts_total",
        "",
        _VAULT,
        "Starts of the vault after one that ended without being told to.",
    ),
    # ------------------------------------------------------------------ the vault, for its people
    _histogram(
        "sordino_train_step_seconds",
        "run_id",
        _VAULT,
        "Time to make one release; depends on the records.",
        buckets=_STEP_SECONDS,
        release=ReleaseClass.LOCAL,
    ),
    _gauge(
        "sordino_train_batch_records",
        "run_id",
        _VAULT,
        "Units of the newest batch, before any noise.",
        ReleaseClass.LOCAL,
    ),
    _gauge(
        "sordino_train_clip_fraction_ratio",
        "run_id",
        _VAULT,
        "Share of the newest batch's units whose gradient was clipped, before any noise.",
        ReleaseClass.LOCAL,
    ),
    _gauge(
        "sordino_train_loss",
        "run_id",
        _VAULT,
        "Mean loss of the newest batch's units, before any noise.",
        ReleaseClass.LOCAL,
    ),
)

METRICS: Mapping[str, MetricFacts] = MappingProxyType({each.name: each for each in _TABLE})
"""Every metric of ours, by its name."""


def gauge_family(name: str) -> GaugeMetricFamily:
    """A gauge of the table, to be filled by a collector.

    Raises:
        ValueError: the table has no such gauge.
    """
    facts = _facts(name, MetricKind.GAUGE)
    return GaugeMetricFamily(name, facts.text, labels=facts.labels)


def counter_family(name: str) -> CounterMetricFamily:
    """A counter of the table, to be filled by a collector.

    Raises:
        ValueError: the table has no such counter.
    """
    facts = _facts(name, MetricKind.COUNTER)
    return CounterMetricFamily(name, facts.text, labels=facts.labels)


def histogram_family(name: str) -> HistogramMetricFamily:
    """A histogram of the table, to be filled by a collector from the table's buckets.

    Raises:
        ValueError: the table has no such histogram.
    """
    facts = _facts(name, MetricKind.HISTOGRAM)
    return HistogramMetricFamily(name, facts.text, labels=facts.labels)


def make_gauge(name: str, registry: CollectorRegistry) -> Gauge:
    """A gauge of the table in a registry; raises as `gauge_family` does."""
    facts = _facts(name, MetricKind.GAUGE)
    return Gauge(name, facts.text, facts.labels, registry=registry)


def make_counter(name: str, registry: CollectorRegistry) -> Counter:
    """A counter of the table in a registry; raises as `counter_family` does."""
    facts = _facts(name, MetricKind.COUNTER)
    return Counter(name, facts.text, facts.labels, registry=registry)


def make_histogram(name: str, registry: CollectorRegistry) -> Histogram:
    """A histogram of the table in a registry; raises as `histogram_family` does."""
    facts = _facts(name, MetricKind.HISTOGRAM)
    return Histogram(name, facts.text, facts.labels, registry=registry, buckets=facts.buckets)


class ReadCollector(Collector):
    """Families that are made anew at every scrape, from state that lies elsewhere."""

    def __init__(self, read: Callable[[], Iterator[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Read the state now."""
        yield from self._read()


def _facts(name: str, kind: MetricKind) -> MetricFacts:
    facts = METRICS.get(name)
    if facts is None or facts.kind is not kind:
        raise ValueError(f"{name} is no {kind} of the table in sordino_protocols.metrics")
    return facts
