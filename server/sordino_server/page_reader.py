"""Reads what the status page shows off the server's own state, and changes nothing."""

import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sordino_protocols.errors import IntegrityError
from sordino_protocols.health import Check
from sordino_protocols.rounds import RunState
from sordino_server.audit_document import AuditDocument, read_audit
from sordino_server.contradictions import Contradictions
from sordino_server.notices import notices_of
from sordino_server.page_facts import (
    AuditFacts,
    Budget,
    Contradicted,
    Headline,
    PageFacts,
    RunFacts,
    SiteFacts,
)
from sordino_server.quarantine import QUARANTINE, quarantine_of
from sordino_server.runs import (
    CERTIFICATE,
    EVALUATION,
    STATEMENT,
    LogEntry,
    RunDirectory,
    Runs,
    last_state,
)
from sordino_server.statement import EvaluationFacts, Statement
from sordino_server.superlink import RegisteredNode

SHOWN_RUNS = 30
"""How many runs that are over the page lists.

Runs that are not over are all there, and so are those whose models are withheld.
"""

_ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom the page asks, beside the runs.

    Attributes:
        nodes: the sites, as the SuperLink knows them.
        contradictions: what sites showed that contradicts what they showed before.
        evaluate: the readiness checks.
        certificate_ends: when the server's certificate does; None where it cannot be read.
        now: the time.
    """

    nodes: Callable[[], Sequence[RegisteredNode]]
    contradictions: Contradictions
    evaluate: Callable[[], tuple[Check, ...]]
    certificate_ends: Callable[[], dt.datetime | None]
    now: Callable[[], dt.datetime]


class PageReader:
    """Reads the facts; what a run that is over says is read once."""

    def __init__(
        self,
        server: str,
        runs: Runs,
        sources: Sources,
    ) -> None:
        """Read nothing yet.

        Args:
            server: its name.
            runs: all of them.
            sources: of everything else.
        """
        self._server = server
        self._runs = runs
        self._sources = sources
        self._ended: dict[str, RunFacts] = {}
        self._lock = threading.Lock()

    def read(self) -> PageFacts:
        """The page as it is now."""
        with self._lock:
            runs = [self._facts(run) for run in self._runs.all()]
        active = tuple(each for each in runs if not each.is_over)
        ended = self._ended_to_show([each for each in reversed(runs) if each.is_over])
        nodes = self._sources.nodes()
        contradicted = self._sources.contradictions(node.name for node in nodes)
        sites = tuple(_site(node, runs, contradicted) for node in nodes)
        checks = self._sources.evaluate()
        now = self._sources.now()
        notices = notices_of(
            checks,
            sites,
            (*active, *ended),
            certificate_ends=self._sources.certificate_ends(),
            now=now,
        )
        return PageFacts(self._server, checks, sites, active, ended, notices)

    def run(self, run_id: str) -> RunFacts:
        """One run.

        Raises:
            NotFoundError: there is no such run.
        """
        run = self._runs.get(run_id)
        with self._lock:
            facts = self._facts(run)
        return self._with_audit(facts)

    def log(self, run_id: str) -> list[LogEntry]:
        """What happened to a run.

        Raises:
            NotFoundError: there is no such run.
        """
        return list(self._runs.get(run_id).events())

    def _facts(self, run: RunDirectory) -> RunFacts:
        known = self._ended.get(run.run_id)
        if known is not None:
            return known
        facts = _read(run)
        if facts.is_over:
            self._ended[run.run_id] = facts
        return facts

    def _ended_to_show(self, ended: Sequence[RunFacts]) -> tuple[RunFacts, ...]:
        """The newest of these, and older ones about whose model somebody has yet to decide."""
        recorded = self._runs.storage.read_each(QUARANTINE)
        older = [self._with_audit(each) for each in ended[SHOWN_RUNS:] if each.run_id in recorded]
        newest = [self._with_audit(each) for each in ended[:SHOWN_RUNS]]
        return (*newest, *(each for each in older if each.quarantine))

    def _with_audit(self, facts: RunFacts) -> RunFacts:
        """Audits, quarantines and certificates come when a run is over."""
        run = self._runs.get(facts.run_id)
        document, quarantine = read_audit(run), _quarantine(run)
        return replace(
            facts,
            audit=None if document is None else _audit(document),
            quarantine=quarantine,
            has_certificate=not quarantine and run.has(CERTIFICATE),
        )


def _read(run: RunDirectory) -> RunFacts:
    manifest, job, entries = run.manifest(), run.job(), list(run.events())
    # Of a round that was logged twice, the later entry holds.
    rounds = {int(str(each["round"])): each for each in entries if each["event"] == "round"}
    last = rounds[max(rounds)] if rounds else None
    state = last_state(entries) or RunState.QUEUED
    reasons = [
        str(each["reason"]) for each in entries if each["event"] == "state" and "reason" in each
    ]
    statement = run.read_if_there(STATEMENT, Statement)
    return RunFacts(
        run_id=run.run_id,
        name=job.file.job.name,
        dataset=job.file.job.dataset,
        purpose=manifest.purpose,
        submitter=manifest.job.submitter,
        state=state,
        created=manifest.created,
        changed=str(entries[-1]["at"]) if entries else manifest.created,
        round=max(rounds, default=0),
        rounds=job.plan.rounds,
        deadline_seconds=job.file.cohort.deadline_seconds,
        participants=() if last is None else tuple(_texts(last["participants"])),
        answers=_answers(rounds.values()),
        epsilon_spent=_spent(last, statement),
        epsilon_planned=job.file.privacy.epsilon if job.file.privacy else None,
        waits_for=_waits_for(entries, state),
        reason=reasons[-1] if reasons and state is RunState.FAILED else "",
        headline=_headline(run.read_if_there(EVALUATION, EvaluationFacts)),
        budgets=_budgets(statement, job.file.job.dataset, told_at=_last_at(entries)),
    )


def _site(
    node: RegisteredNode, runs: Iterable[RunFacts], contradicted: Iterable[Contradicted]
) -> SiteFacts:
    answers: Counter[bool] = Counter()
    budgets: dict[str, Budget] = {}
    for run in runs:
        for (site, result), count in run.answers.items():
            if site == node.name:
                answers[result == _ACCEPTED] += count
        if node.name in run.budgets:
            budgets[run.dataset] = run.budgets[node.name]
    ordered = tuple(budgets[name] for name in sorted(budgets))
    return SiteFacts(
        name=node.name,
        is_connected=node.is_online,
        last_seen=node.last_seen,
        accepted=answers[True],
        rejected=answers[False],
        budgets=ordered,
        contradicted=tuple(each for each in contradicted if each.site == node.name),
    )


def _answers(rounds: Iterable[LogEntry]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for each in rounds:
        counts.update((site, _ACCEPTED) for site in _texts(each["participants"]))
        for kind in ("rejections", "refusals"):
            counts.update(_pairs(each.get(kind)))
    return counts


def _spent(last: LogEntry | None, statement: Statement | None) -> float | None:
    """By the receipts, the most of any site; before there are any, by the log."""
    if statement is not None and statement.receipts:
        return max(each.epsilon_spent_pld for each in statement.receipts.values())
    return None if last is None else float(str(last["epsilon_spent"]))


def _budgets(statement: Statement | None, dataset: str, *, told_at: str) -> dict[str, Budget]:
    if statement is None:
        return {}
    return {
        site: Budget(dataset, each.budget_spent, each.budget_limit, told_at)
        for site, each in statement.receipts.items()
        if each.budget_limit > 0
    }


def _headline(evaluation: EvaluationFacts | None) -> Headline | None:
    if evaluation is None or not evaluation.metrics:
        return None
    figure, found = next(iter(evaluation.metrics.items()))
    return Headline(figure.replace("_", " "), found.value, found.lower, found.upper)


def _waits_for(entries: Iterable[LogEntry], state: RunState) -> tuple[str, ...]:
    if state is not RunState.ADMITTING:
        return ()
    sites = {str(each["site"]) for each in entries if each["event"] == "waiting_for_approval"}
    return tuple(sorted(sites))


def _audit(document: AuditDocument) -> AuditFacts:
    lows = [each.epsilon_low for each in document.bounds if each.standing == "bound"]
    # A bound without a number is one that nothing limits.
    lower = max((float("inf") if each is None else each for each in lows), default=None)
    return AuditFacts(document.verdict, lower, document.claimed, document.issued_at)


def _quarantine(run: RunDirectory) -> str:
    try:
        lasting = quarantine_of(run)
    except IntegrityError:
        return "the record of its quarantines was altered"
    return "" if lasting is None else lasting.reason


def _last_at(entries: Sequence[LogEntry]) -> str:
    return str(entries[-1]["at"]) if entries else ""


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(str(a), str(b)) for a, b in value.items()] if isinstance(value, dict) else []
