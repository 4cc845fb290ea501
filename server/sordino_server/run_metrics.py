"""What a scrape tells of runs: read off their logs, and nothing counted on the side.

So a server that was killed goes on with the same counters. A run that is over is read once for
ever; what is kept of it is a few counts. What must stay true: series by run exist only while a run
is under way, but for the newest evaluations.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.core import Metric

from sordino_protocols.metrics import (
    METRICS,
    counter_family,
    gauge_family,
    histogram_family,
)
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunState
from sordino_server.questions import FailureCause
from sordino_server.runs import (
    EVALUATION,
    EVENTS_IN_VAIN,
    LogEntry,
    RunDirectory,
    Runs,
    last_state,
)
from sordino_server.statement import EvaluationFacts
from sordino_server.strategy import Rejection

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
STATUSES = (ACCEPTED, *(each.value for each in Rejection))
"""What a site did in a round."""
RESULTS = (*STATUSES, DUPLICATE)
"""What becomes of an answer to a round; a site may answer again what it has answered."""

PHASES: Mapping[RunState, str] = {
    RunState.ADMITTING: "admission",
    RunState.MEASURING: "statistics",
    RunState.TRAINING: "round",
    RunState.EVALUATING: "evaluation",
    RunState.TABULATING: "table",
    RunState.SETTLING: "settlement",
}
"""What a run asks its sites in which state."""

_DURATION = "sordino_round_duration_seconds"
_MOST_EVALUATIONS = 20
_NO_COST = frozenset({"price", "mock"})
_NO_PROGRESS = frozenset({"attempt", "interrupted", *EVENTS_IN_VAIN})


@dataclass(frozen=True, slots=True)
class RunReading:
    """What a scrape needs of one run: little, for it is kept.

    Attributes:
        run_id: the run.
        state: where it is.
        results: how often a site's answer to a round became what.
        seconds: how long each of its questions took, by phase.
        evaluation: the noisy figures of its model.
        ended: outcome and reason, of a run that is over.
        progress: of a run that asks for releases and is under way.
    """

    run_id: str
    state: RunState
    results: Counter[tuple[str, str]]
    seconds: Mapping[str, tuple[float, ...]]
    evaluation: Mapping[str, float]
    ended: tuple[str, str] | None
    progress: "Progress | None"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is that asks sites for releases.

    Attributes:
        sites: that take part, or were asked to.
        quorum: how many of them are needed.
        rounds: done so far.
        planned_rounds: in all; 0 of a run that trains nothing.
        last_round: by site, what its answer became.
        epsilon_spent: by site, on rounds.
        epsilon_planned: of the whole run; None if it has none, which no run should.
        last_progress: Unix time at which it last got further.
    """

    sites: tuple[str, ...]
    quorum: int
    rounds: int
    planned_rounds: int
    last_round: Mapping[str, str]
    epsilon_spent: Mapping[str, float]
    epsilon_planned: float | None
    last_progress: float


class RunReader:
    """Reads all runs; those that are over only once."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._ended: dict[str, RunReading] = {}

    def read(self) -> list[RunReading]:
        """Every run as it is now, oldest first."""
        return [self._reading(run) for run in self._runs.all()]

    def _reading(self, run: RunDirectory) -> RunReading:
        known = self._ended.get(run.run_id)
        if known is None:
            known = read_run(run)
            if known.ended is not None:
                self._ended[run.run_id] = known
        return known


def read_run(run: RunDirectory) -> RunReading:
    """What a run's log says now."""
    entries = list(run.events())
    state = last_state(entries) or RunState.QUEUED
    is_free = run.manifest().purpose in _NO_COST
    is_over = state in TERMINAL_RUN_STATES
    rounds = _rounds(entries)
    evaluation = run.read_if_there(EVALUATION, EvaluationFacts)
    return RunReading(
        run.run_id,
        state,
        results=_results(rounds),
        seconds={} if is_free else _seconds(entries, rounds),
        evaluation={}
        if evaluation is None
        else {name: found.value for name, found in evaluation.metrics.items()},
        ended=_ended(state, entries) if is_over else None,
        progress=None
        if is_over or is_free or state is RunState.QUEUED
        else _progress(run, entries, rounds),
    )


def run_families(readings: Sequence[RunReading], sites: Sequence[str]) -> Iterator[Metric]:
    """Everything that is told of all runs together.

    Args:
        readings: of all runs.
        sites: whose counters are shown, from 0.
    """
    yield _states(readings)
    yield _outcomes(readings)
    yield _updates(readings, sites)
    yield _durations(readings)
    yield _evaluated(readings)


def progress_families(readings: Sequence[RunReading], connected: set[str]) -> Iterator[Metric]:
    """Everything that is told of each run under way; families without a series between runs.

    Args:
        readings: of all runs.
        connected: sites whose link is.
    """
    active = [(each.run_id, each.progress) for each in readings if each.progress is not None]
    # One family a metric, whatever the number of runs: a family that comes twice is no valid text.
    rounds, planned = gauge_family("sordino_run_round"), gauge_family("sordino_run_rounds_planned")
    quorum = gauge_family("sordino_run_quorum")
    there = gauge_family("sordino_run_sites_connected")
    last = gauge_family("sordino_round_last_progress_timestamp_seconds")
    for run_id, progress in active:
        if progress.planned_rounds:
            rounds.add_metric([run_id], progress.rounds)
            planned.add_metric([run_id], progress.planned_rounds)
        quorum.add_metric([run_id], progress.quorum)
        there.add_metric([run_id], len(connected & set(progress.sites)))
        last.add_metric([run_id], progress.last_progress)
    yield from (rounds, planned, quorum, there, last)
    yield from _site_families(active)


def _site_families(active: Sequence[tuple[str, Progress]]) -> Iterator[Metric]:
    spent = gauge_family("sordino_run_epsilon_spent")
    whole = gauge_family("sordino_run_epsilon_planned")
    participants = gauge_family("sordino_round_participants")
    for run_id, progress in active:
        for site in progress.sites:
            spent.add_metric([run_id, site], progress.epsilon_spent.get(site, 0.0))
            if progress.epsilon_planned is not None:
                whole.add_metric([run_id, site], progress.epsilon_planned)
        statuses = Counter(progress.last_round.values())
        for status in STATUSES:
            participants.add_metric([run_id, status], statuses[status])
    yield from (spent, whole, participants)


# -------------------------------------------------------------------- one run


def _rounds(entries: Iterable[LogEntry]) -> list[LogEntry]:
    """The rounds in order. Of one that was logged twice, the later entry holds."""
    rounds = {int(str(each["round"])): each for each in entries if each["event"] == "round"}
    return [rounds[number] for number in sorted(rounds)]


def _answers(entry: LogEntry) -> dict[str, str]:
    """By site, what its answer to a round became."""
    accepted = dict.fromkeys(_items(entry["participants"]), ACCEPTED)
    refused = dict.fromkeys(_pairs(entry["refusals"]), Rejection.REFUSED.value)
    return accepted | refused | _pairs(entry["rejections"])


def _results(rounds: Iterable[LogEntry]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for entry in rounds:
        counts.update(_answers(entry).items())
        for site, count in _pairs(entry.get("duplicates")).items():
            counts[site, DUPLICATE] += int(count)
    return counts


def _seconds(
    entries: Sequence[LogEntry], rounds: Iterable[LogEntry]
) -> dict[str, tuple[float, ...]]:
    found: dict[str, list[float]] = {phase: [] for phase in PHASES.values()}
    found["round"] = [float(str(each["seconds"])) for each in rounds if "seconds" in each]
    states = [each for each in entries if each["event"] == "state"]
    for before, after in pairwise(states):
        phase = PHASES.get(RunState(str(before["state"])))
        if phase is not None and phase != "round":
            found[phase].append(max(0.0, _unix(after) - _unix(before)))
    return {phase: tuple(seconds) for phase, seconds in found.items()}


def _ended(state: RunState, entries: Sequence[LogEntry]) -> tuple[str, str]:
    if state is RunState.DONE:
        return RunState.DONE.value, ""
    causes = [str(each["cause"]) for each in entries if "cause" in each]
    known = causes[-1] if causes else FailureCause.OTHER.value
    return RunState.FAILED.value, known


def _progress(
    run: RunDirectory, entries: Sequence[LogEntry], rounds: Sequence[LogEntry]
) -> Progress:
    job = run.job()
    sites = _sites(entries)
    return Progress(
        sites=sites,
        quorum=job.file.cohort.quorum,
        rounds=int(str(rounds[-1]["round"])) if rounds else 0,
        planned_rounds=job.plan.rounds,
        last_round=_answers(rounds[-1]) if rounds else {},
        epsilon_spent={site: _spent(site, rounds) for site in sites},
        epsilon_planned=job.file.privacy.epsilon if job.file.privacy else None,
        last_progress=max(
            (_unix(each) for each in entries if each["event"] not in _NO_PROGRESS), default=0.0
        ),
    )


def _sites(entries: Iterable[LogEntry]) -> tuple[str, ...]:
    """The sites that were let in; before that, those that were asked."""
    sites: list[str] = []
    for entry in entries:
        if entry["event"] == "state":
            sites = _items(entry.get("sites")) or _items(entry.get("cohort")) or sites
    return tuple(sites)


def _spent(site: str, rounds: Sequence[LogEntry]) -> float:
    """What a site has paid: each round but those that it refused, or was not there for."""
    unpaid = {Rejection.REFUSED.value, Rejection.UNREACHABLE.value}
    paid = sum(
        _answers(each).get(site, Rejection.UNREACHABLE.value) not in unpaid for each in rounds
    )
    # A round costs the same whichever it is: after so many of them the run was here.
    return float(str(rounds[paid - 1]["epsilon_spent"])) if paid else 0.0


# -------------------------------------------------------------------- all runs


def _states(readings: Iterable[RunReading]) -> Metric:
    states = Counter(each.state for each in readings)
    family = gauge_family("sordino_runs")
    for state in RunState:
        family.add_metric([state.value], states[state])
    return family


def _outcomes(readings: Iterable[RunReading]) -> Metric:
    counts = Counter(each.ended for each in readings)
    family = counter_family("sordino_runs_total")
    failures = ((RunState.FAILED.value, cause.value) for cause in FailureCause)
    for outcome, reason in ((RunState.DONE.value, ""), *failures):
        family.add_metric([outcome, reason], counts[outcome, reason])
    return family


def _updates(readings: Iterable[RunReading], sites: Sequence[str]) -> Metric:
    counts: Counter[tuple[str, str]] = Counter()
    for each in readings:
        counts.update(each.results)
    family = counter_family("sordino_updates_total")
    for site in sites:
        for result in RESULTS:
            family.add_metric([site, result], counts[site, result])
    return family


def _durations(readings: Sequence[RunReading]) -> Metric:
    family, bounds = histogram_family(_DURATION), METRICS[_DURATION].buckets
    for phase in PHASES.values():
        seconds = [each for reading in readings for each in reading.seconds.get(phase, ())]
        buckets = [(str(bound), sum(each <= bound for each in seconds)) for bound in bounds]
        family.add_metric([phase], [*buckets, ("+Inf", len(seconds))], sum(seconds))
    return family


def _evaluated(readings: Sequence[RunReading]) -> Metric:
    family = gauge_family("sordino_eval_metric")
    # The newest only: one series a run, for ever, is no metric but a list of runs.
    for each in [each for each in readings if each.evaluation][-_MOST_EVALUATIONS:]:
        for name, value in each.evaluation.items():
            family.add_metric([each.run_id, name], value)
    return family


def _unix(entry: LogEntry) -> float:
    return dt.datetime.fromisoformat(str(entry["at"])).timestamp()


def _items(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _pairs(value: object) -> dict[str, str]:
    return {str(a): str(b) for a, b in value.items()} if isinstance(value, dict) else {}
