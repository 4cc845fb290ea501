"""The server's metrics, read off its state when somebody scrapes. All of them are `public`.

The server never sees a record, so nothing here can depend on one but through a paid release; the
noisy evaluation is the one metric of class `dp`.
"""

import platform
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunState
from sordino_server.runs import EVALUATION, RunDirectory, Runs
from sordino_server.statement import EvaluationFacts
from sordino_server.strategy import Rejection
from sordino_server.superlink import SuperLink

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
    return registry


class ServerCollector(Collector):
    """Sites, runs and rounds as they are now."""

    def __init__(self, superlink: SuperLink, runs: Runs) -> None:
        self._superlink = superlink
        self._runs = runs

    def collect(self) -> Iterator[Metric]:
        """Read everything once."""
        connected = _gauge("sordino_site_connected", "Whether a site's link is connected.", "site")
        nodes = self._superlink.nodes()
        for node in nodes:
            connected.add_metric([node.name], float(node.is_online))
        yield connected
        runs = self._runs.all()
        states = Counter(run.state() for run in runs)
        by_state = _gauge("sordino_runs", "Runs by state.", "state")
        for state in RunState:
            by_state.add_metric([state.value], states[state])
        yield by_state
        yield _updates(runs, [node.name for node in nodes])
        for run in runs:
            if run.state() not in TERMINAL_RUN_STATES:
                yield from _active(run)
            yield from _evaluated(run)


def _updates(runs: list[RunDirectory], sites: list[str]) -> Metric:
    counts: Counter[tuple[str, str]] = Counter()
    for run in runs:
        for event in run.events():
            if event["event"] == "round":
                counts.update((str(site), "accepted") for site in _items(event["participants"]))
                counts.update((site, why) for site, why in _pairs(event["rejections"]))
    family = CounterMetricFamily(
        "sordino_updates", "Answers to rounds by what became of them.", labels=["site", "result"]
    )
    for site in sites:
        for result in ("accepted", *(each.value for each in Rejection)):
            family.add_metric([site, result], counts[site, result])
    return family


def _active(run: RunDirectory) -> Iterator[Metric]:
    job = run.job()
    last = [event for event in run.events() if event["event"] == "round"][-1:]
    spent = float(str(last[0]["epsilon_spent"])) if last else 0.0
    done = int(str(last[0]["round"])) if last else 0
    participants = len(_items(last[0]["participants"])) if last else 0
    for name, text, value in (
        ("sordino_run_round", "Rounds done.", float(done)),
        ("sordino_run_rounds_planned", "Rounds planned.", float(job.plan.training.rounds)),
        ("sordino_run_epsilon_spent", "Epsilon a site has spent on rounds, by PLD.", spent),
        ("sordino_run_epsilon_planned", "Epsilon of the whole run.", job.file.privacy.epsilon),
        ("sordino_round_participants", "Answers in the last round.", float(participants)),
    ):
        family = _gauge(name, text, "run_id")
        family.add_metric([run.run_id], value)
        yield family


def _evaluated(run: RunDirectory) -> Iterator[Metric]:
    if not (run.path / EVALUATION).exists():
        return
    evaluation = run.read(EVALUATION, EvaluationFacts)
    family = GaugeMetricFamily(
        "sordino_eval_metric", "Noisy evaluation of a run's model.", labels=["run_id", "metric"]
    )
    for metric, value in (("accuracy", evaluation.accuracy), ("auc", evaluation.auc)):
        family.add_metric([run.run_id, metric], value)
    yield family


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=[label])


def _items(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(str(a), str(b)) for a, b in value.items()] if isinstance(value, dict) else []
