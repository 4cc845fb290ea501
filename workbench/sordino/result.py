"""The shape of a demo run's result: what is stored as JSON and what the page is made from.

Everything here may leave the machine, with one exception that is named as such: `exact` and
`baselines` are exact figures which only somebody with all sites' held-out records can compute.
No real federation has them; a demo on public data does.
"""

import json
from typing import NotRequired, TypedDict

from sordino_audit.audit_document import AuditDocument
from sordino_protocols.plan import LossName
from sordino_protocols.privacy import PrivacyUnit
from sordino_protocols.scorecard import Figure

Quality = dict[Figure, float]
"""Exact quality on held-out records: figures by name, as an evaluation of the same loss has them.

Errors are in the label's units.
"""


class JobSection(TypedDict):
    """What was asked for.

    `errors_in` says what a number's errors are counted in, `""` where the label is no number.
    """

    name: str
    unit: PrivacyUnit
    epsilon: float
    delta: float
    model: str
    rounds: int
    errors_in: str


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


class FigureEntry(TypedDict):
    """One figure with the two ends of its interval."""

    value: float
    interval: list[float]


class EvaluationSection(TypedDict):
    """The noisy evaluation: released, paid for, and all that a real federation would see.

    `figures` are by name, the most telling first; errors are in the label's units, and so many of
    these are one unit of a scaled label: `label_scale`. `counts` are noisy: for the loss "binary"
    of scores by class, for "cross_entropy" wrong and right answers by class, for "squared" of
    errors by size, in one row.
    """

    loss: LossName
    figures: dict[Figure, FigureEntry]
    epsilon: float
    counts: list[list[float]]
    label_scale: float


class AloneSection(TypedDict):
    """Each site with its own records only, under the same guarantee."""

    mean: Quality
    sites: dict[str, Quality]


class BaselineSection(TypedDict):
    """What the federation is compared with; `central` pools all records without protection.

    `left_out` has a sentence on each that could not be trained, which then is None.
    """

    central: Quality | None
    alone: AloneSection | None
    left_out: list[str]


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


class SyntheticSection(TypedDict):
    """The same model from synthetic records: one message from every site, and no rounds.

    `epsilon_release` and `epsilon_evaluation` are what the two jobs cost a unit at a site, `units`
    what the noisy counts say of how many there are, all sites together; `left_out` says why there
    is none of it, and everything else is empty then.
    """

    run_id: str
    training_run_id: str
    epsilon_release: float
    epsilon_evaluation: float
    exact: Quality
    figures: dict[Figure, FigureEntry]
    units: float
    units_std: float
    cells: int
    message_bytes: int
    seconds: float
    left_out: str


class RunResult(TypedDict):
    """The result of one run of the demo.

    `audit_page` is where the audit's own page lies, seen from the run's page, and `synthetic_page`
    that of the synthesis.
    """

    run_id: str
    job: JobSection
    sites: list[SiteSection]
    rounds: int
    exact: Quality
    evaluation: EvaluationSection
    baselines: BaselineSection
    training: list[RoundEntry]
    audit: AuditDocument
    audit_page: NotRequired[str]
    synthetic: NotRequired[SyntheticSection]
    synthetic_page: NotRequired[str]
    seconds: SecondsSection


class DemoResult(RunResult):
    """What `sordino demo --json` prints: the run's result, and where the files lie.

    `accuracy` and `auc` are those of `exact` again, for whoever reads no more than a figure; what
    the job's loss does not have is absent.
    """

    accuracy: NotRequired[float]
    auc: NotRequired[float]
    report: str
    files: dict[str, str]


def result_json(result: RunResult, *, indent: int | None = None) -> str:
    """A result as JSON, its audit as the audit's own document has it."""
    return json.dumps({**result, "audit": result["audit"].model_dump(mode="json")}, indent=indent)
