"""The server's metrics, read off its state when somebody scrapes. All of them are `public`.

The server never sees a record, so nothing here can depend on one but through a paid release; the
noisy evaluation is the one metric of class `dp`.
"""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunState
from sordino_server.audit_metrics import AUDIT_RELEASE_CLASSES, AuditCollector
from sordino_server.runs import EVALUATION, LogEntry, RunDirectory, Runs, last_state
from sordino_server.statement import EvaluationFacts
from sordino_server.strategy import Rejection
from sordino_server.superlink import RegisteredNode, SuperLink

_MOST_EVALUATIONS = 20

RELEASE_CLASSES = {
    "sordino_build_info": "public",
    "sordino_site_connected": "public",
    "sordino_runs": "public",
    "sordino_run_round": "public",
    "sordino_run_rounds_planned": "public",
    "sordino_run_epsilon_spent": "public",
    "sordino_run_epsilon_planned": "public",
    "sordino_round_participants": "public",
    "sordino_updates": "public",
    "sordino_eval_metric": "dp",
    **AUDIT_RELEASE_CLASSES,
}


def server_registry(superlink: SuperLink, runs: Runs) -> CollectorRegistry:
    """A registry that reads the server's state at every scrape."""
    registry = CollectorRegistry()
    build = Gauge(
        "sordino_build_info",
        "Versions that run here.",
        ["version", "python", "flwr", "component"],
        registry=registry,
    )
    build.labels(version("sordino"), platform.python_version(), version("flwr"), "server").set(1)
    registry.register(ServerCollector(superlink, runs))
    registry.register(AuditCollector(runs))
    return registry


class ServerCollector(Collector):
    """Sites, runs and rounds as they are now."""

    def __init__(self, superlink: SuperLink, runs: Runs) -> None:
        self._superlink = superlink
        self._runs = runs
        self._ended: dict[str, _RunFacts] = {}

    def collect(self) -> Iterator[Metric]:
        """Read everything once; what a run that is over says is read once for ever."""
        nodes = self._superlink.nodes()
        facts = [self._facts(run) for run in self._runs.all()]
        yield _connected(nodes)
        yield _states(facts)
        yield _updates(facts, [node.name for node in nodes])
        yield from _active([each for each in facts if each.state not in TERMINAL_RUN_STATES])
        yield _evaluated(facts)

    def _facts(self, run: RunDirectory) -> "_RunFacts":
        known = self._ended.get(run.run_id)
        if known is not None:
            return known
        facts = _read(run)
        if facts.state in TERMINAL_RUN_STATES:
            self._ended[run.run_id] = facts
        return facts


@dataclass(frozen=True, slots=True)
class _RunFacts:
    """What a scrape needs of one run: little, for it is kept.

    Attributes:
        results: how often a site's answer to a round became what.
        last_round: the log's entry.
    """

    run: RunDirectory
    state: RunState
    results: Counter[tuple[str, str]]
    last_round: LogEntry
    evaluation: EvaluationFacts | None


def _read(run: RunDirectory) -> _RunFacts:
    entries = list(run.events())
    # Of a round that was logged twice, the later entry holds.
    rounds = {int(str(each["round"])): each for each in entries if each["event"] == "round"}
    nothing: LogEntry = {"round": 0, "epsilon_spent": 0.0, "participants": []}
    has_evaluation = (run.path / EVALUATION).exists()
    return _RunFacts(
        run,
        last_state(entries) or RunState.QUEUED,
        results=_results(rounds.values()),
        last_round=rounds[max(rounds)] if rounds else nothing,
        evaluation=run.read(EVALUATION, EvaluationFacts) if has_evaluation else None,
    )


def _results(rounds: Iterable[LogEntry]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for each in rounds:
        counts.update((site, "accepted") for site in _items(each["participants"]))
        counts.update((site, why) for site, why in _pairs(each["rejections"]))
        counts.update((site, Rejection.REFUSED.value) for site, _ in _pairs(each["refusals"]))
    return counts


def _connected(nodes: list[RegisteredNode]) -> Metric:
    family = _gauge("sordino_site_connected", "Whether a site's link is connected.", "site")
    for node in nodes:
        family.add_metric([node.name], float(node.is_online))
    return family


def _states(facts: list[_RunFacts]) -> Metric:
    states = Counter(each.state for each in facts)
    family = _gauge("sordino_runs", "Runs by state.", "state")
    for state in RunState:
        family.add_metric([state.value], states[state])
    return family


def _updates(facts: list[_RunFacts], sites: list[str]) -> Metric:
    counts = sum((each.results for each in facts), Counter[tuple[str, str]]())
    family = CounterMetricFamily(
        "sordino_updates", "Answers to rounds by what became of them.", labels=["site", "result"]
    )
    for site in sites:
        for result in ("accepted", *(each.value for each in Rejection)):
            family.add_metric([site, result], counts[site, result])
    return family


def _active(facts: list[_RunFacts]) -> Iterator[Metric]:
    # One family a metric, whatever the number of runs: a family that comes twice is no valid text.
    done = _gauge("sordino_run_round", "Rounds done.", "run_id")
    planned = _gauge("sordino_run_rounds_planned", "Rounds planned.", "run_id")
    spent = _gauge(
        "sordino_run_epsilon_spent", "Epsilon a site has spent on rounds, by PLD.", "run_id"
    )
    whole = _gauge("sordino_run_epsilon_planned", "Epsilon of the whole run.", "run_id")
    participants = _gauge("sordino_round_participants", "Answers in the last round.", "run_id")
    for each in facts:
        label, last, job = [each.run.run_id], each.last_round, each.run.job()
        done.add_metric(label, float(str(last["round"])))
        planned.add_metric(label, job.plan.rounds)
        spent.add_metric(label, float(str(last["epsilon_spent"])))
        # A mock costs nothing.
        whole.add_metric(label, job.file.privacy.epsilon if job.file.privacy else 0.0)
        participants.add_metric(label, len(_items(last["participants"])))
    yield from (done, planned, spent, whole, participants)


def _evaluated(facts: list[_RunFacts]) -> Metric:
    family = GaugeMetricFamily(
        "sordino_eval_metric", "Noisy evaluation of a run's model.", labels=["run_id", "metric"]
    )
    evaluated = [each for each in facts if each.evaluation is not None]
    # The newest only: one series a run, for ever, is no metric but a list of runs.
    for each in evaluated[-_MOST_EVALUATIONS:]:
        if each.evaluation is not None:
            for name, found in each.evaluation.metrics.items():
                family.add_metric([each.run.run_id, name], found.value)
    return family


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=[label])


def _items(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(str(a), str(b)) for a, b in value.items()] if isinstance(value, dict) else []
