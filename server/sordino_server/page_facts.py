"""What the status page shows: sites, runs, budgets and audits, as values.

Everything in them is public: what sites signed, what was paid for, and what was decided.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sordino_protocols.health import Check
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunState

BUDGET_TICKET = 0.8
BUDGET_PAGE = 0.95
"""From which share of a budget somebody should look at it, and look at it now."""

CERTIFICATE_TICKET = dt.timedelta(days=14)
CERTIFICATE_PAGE = dt.timedelta(days=2)
"""With how little left of a certificate somebody should renew it, and renew it now."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A site's lifetime budget for a data set, as the site last signed it.

    Attributes:
        dataset: as jobs call it.
        spent: epsilon.
        limit: epsilon.
        told_at: when the run ended whose receipt said so.
    """

    dataset: str
    spent: float
    limit: float
    told_at: str

    @property
    def share(self) -> float:
        """How much of it is spent, from 0 to 1."""
        return min(self.spent / self.limit, 1.0) if self.limit > 0 else 1.0

    @property
    def tone(self) -> str:
        """How it is coloured: by the thresholds of the alerts."""
        if self.share >= BUDGET_PAGE:
            return "bad"
        return "warm" if self.share >= BUDGET_TICKET else "good"


class Record(StrEnum):
    """What a site shows the head of, so that it cannot rewrite it unseen."""

    LEDGER = "ledger"
    AUDIT_LOG = "audit log"


@dataclass(frozen=True, slots=True)
class Contradicted:
    """A site's record that does not go on from what the site showed of it before.

    Attributes:
        site: whose it is.
        record: which one.
        detail: in what way, as the end of a sentence; empty where that is all.
    """

    site: str
    record: Record
    detail: str


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """A site.

    Attributes:
        name: the site's.
        is_connected: whether its heartbeat is alive.
        last_seen: its last sign of life; None before the first.
        accepted: answers to rounds that counted.
        rejected: answers to rounds that did not.
        budgets: as far as the site told them.
        contradicted: its records that contradict what it showed before, unexplained.
    """

    name: str
    is_connected: bool
    last_seen: dt.datetime | None
    accepted: int
    rejected: int
    budgets: tuple[Budget, ...]
    contradicted: tuple[Contradicted, ...]


@dataclass(frozen=True, slots=True)
class Headline:
    """The most telling figure of a run's noisy evaluation, with its interval."""

    figure: str
    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class AuditFacts:
    """A run's newest audit.

    Attributes:
        verdict: of the audit.
        lower: the largest epsilon that a bound showed; None if none did.
        claimed: epsilon; None where nothing is claimed.
        issued_at: when.
    """

    verdict: str
    lower: float | None
    claimed: float | None
    issued_at: dt.datetime


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run.

    Attributes:
        run_id: the run's.
        name: the job's.
        dataset: the job's.
        purpose: what the job was signed for.
        submitter: who signed it.
        state: where the run is.
        created: when it was queued, ISO 8601.
        changed: when its log was last written, ISO 8601.
        round: the last round that was done.
        rounds: as planned; 0 for a run without rounds.
        deadline_seconds: how long the job lets a round last.
        participants: whose answers the last round had.
        answers: by site and what became of them.
        epsilon_spent: of a site that answered everything; None where nothing was paid for yet.
        epsilon_planned: of the whole run; None for a run that costs nothing.
        waits_for: sites where a person has to say yes.
        reason: why it failed; empty otherwise.
        headline: of its evaluation.
        budgets: of its sites, by site, as their receipts say.
        has_certificate: whether there is one that may be fetched.
        audit: the newest.
        quarantine: why its model is withheld; empty where it is not.
    """

    run_id: str
    name: str
    dataset: str
    purpose: str
    submitter: str
    state: RunState
    created: str
    changed: str
    round: int
    rounds: int
    deadline_seconds: float
    participants: tuple[str, ...]
    answers: Mapping[tuple[str, str], int]
    epsilon_spent: float | None
    epsilon_planned: float | None
    waits_for: tuple[str, ...]
    reason: str
    headline: Headline | None
    budgets: Mapping[str, Budget]
    has_certificate: bool = False
    audit: AuditFacts | None = None
    quarantine: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in TERMINAL_RUN_STATES

    @property
    def is_violated(self) -> bool:
        """Whether a promise about it was broken, as far as an audit could tell."""
        return bool(self.quarantine) or (
            self.audit is not None and self.audit.verdict == "violation"
        )

    @property
    def share(self) -> float:
        """How many of its rounds are done, from 0 to 1."""
        if self.state is RunState.DONE:
            return 1.0
        return self.round / self.rounds if self.rounds else 0.0


class Severity(StrEnum):
    """How soon."""

    NOW = "now"
    SOON = "soon"
    KNOW = "know"


@dataclass(frozen=True, slots=True)
class Notice:
    """One of them.

    Attributes:
        severity: how soon somebody should look.
        subject: of what: a site, a run, the server.
        text: what is so, in a sentence or two.
        run_id: the run, if it is about one.
        command: what ends it, where a person has to say so.
    """

    severity: Severity
    subject: str
    text: str
    run_id: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class PageFacts:
    """The whole page.

    Attributes:
        server: its name.
        checks: of its readiness.
        sites: by name.
        active: runs that are not over, oldest first.
        ended: the newest runs that are over, and all whose models are withheld; newest first.
        notices: what somebody should look at, the most urgent first.
    """

    server: str
    checks: tuple[Check, ...]
    sites: tuple[SiteFacts, ...]
    active: tuple[RunFacts, ...]
    ended: tuple[RunFacts, ...]
    notices: tuple[Notice, ...]

    @property
    def worst_budget(self) -> tuple[str, Budget] | None:
        """The budget of which least is left, and whose it is."""
        budgets = [(site.name, each) for site in self.sites for each in site.budgets]
        return max(budgets, key=lambda each: each[1].share, default=None)

    @property
    def violations(self) -> int:
        """Runs of which an audit found that a promise was broken, or whose model is withheld."""
        runs = (*self.active, *self.ended)
        return sum(each.is_violated for each in runs)

    @property
    def headline(self) -> str:
        """The page in a sentence or two."""
        away = [each.name for each in self.sites if not each.is_connected]
        return f"{_sites_in_words(len(self.sites), away)} {_runs_in_words(self.active)}"


def _sites_in_words(total: int, away: list[str]) -> str:
    match total, away:
        case 0, _:
            return "No site is enrolled."
        case _, []:
            return (
                "The only site is connected." if total == 1 else f"All {total} sites are connected."
            )
        case _, [name]:
            return f"{name} is not connected."
        case _:
            return f"{len(away)} of {total} sites are not connected."


def _runs_in_words(active: tuple[RunFacts, ...]) -> str:
    working = [each for each in active if each.state is not RunState.QUEUED]
    match working:
        case []:
            return "Nothing is under way."
        case [run]:
            return f"{run.name} is {run.state.value}."
        case _:
            return f"{len(working)} runs are under way."
