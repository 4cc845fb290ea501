"""The shape of a demo run's result: what is stored as JSON and what the page is made from.

Everything here may leave the machine, with one exception that is named as such: `accuracy`, `auc`
and `baselines` are exact figures which only somebody with all sites' held-out records can compute.
No real federation has them; a demo on public data does.
"""

from typing import TypedDict

from sordino_audit.audit_document import AuditDocument


class JobSection(TypedDict):
    """What was asked for."""

    name: str
    epsilon: float
    delta: float
    model: str
    rounds: int


class EventEntry(TypedDict):
    """Releases of one kind, as the ledger lists them."""

    mechanism: str
    description: str
    count: int


class SiteSection(TypedDict):
    """One site's ledger and its behaviour.

    `epsilon_spent_pld` is the tight cost of this run, `epsilon_spent_rdp` what the lifetime filter
    charges for it; `budget_limit` and `budget_left` are counted as the filter counts.
    """

    name: str
    epsilon_planned: float
    epsilon_spent_pld: float
    epsilon_spent_rdp: float
    budget_limit: float
    budget_left: float
    delta: float
    events: list[EventEntry]
    network_cut_off: bool
    refusals: int


class HistogramSection(TypedDict):
    """Noisy counts of scores in equal-width bins over [0, 1], by class."""

    negative: list[float]
    positive: list[float]


class EvaluationSection(TypedDict):
    """The noisy evaluation: released, paid for, and all that a real federation would see."""

    accuracy: float
    accuracy_interval: list[float]
    auc: float
    auc_interval: list[float]
    epsilon: float
    scores_histogram: HistogramSection


class Quality(TypedDict):
    """Exact quality on held-out records."""

    accuracy: float
    auc: float


class AloneSection(TypedDict):
    """Each site with its own records only, under the same guarantee."""

    mean: Quality
    sites: dict[str, Quality]


class BaselineSection(TypedDict):
    """What the federation is compared with; `central` pools all records without protection."""

    central: Quality
    alone: AloneSection


class RoundEntry(TypedDict):
    """One round of training; `epsilon_spent` is cumulative, the same at every site."""

    round: int
    epsilon_spent: float
    update_norm: float
    seconds: float
    participants: int


class SecondsSection(TypedDict):
    """Wall time.

    `setup` until the first round, `rounds` until the last, `first_model` until the DP model lay on
    disk, all from the start of the demo but `rounds`.
    """

    setup: float
    rounds: float
    first_model: float
    total: float


class RunResult(TypedDict):
    """The result of one run of the demo."""

    run_id: str
    job: JobSection
    sites: list[SiteSection]
    rounds: int
    accuracy: float
    auc: float
    evaluation: EvaluationSection
    baselines: BaselineSection
    training: list[RoundEntry]
    audit: AuditDocument
    seconds: SecondsSection


class DemoResult(RunResult):
    """What `sordino demo --json` prints: the run's result, and where the files lie."""

    report: str
    files: dict[str, str]
