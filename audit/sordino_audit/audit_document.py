"""The shape of an audit's JSON document, apart from the code that makes one."""

from typing import TypedDict


class BoundEntry(TypedDict):
    """A lower bound on epsilon."""

    name: str
    assumption: str
    epsilon_low: float


class TestEntry(TypedDict):
    """A test of the claim; the p-value is not corrected for the number of tests."""

    name: str
    assumption: str
    p_value: float


class FindingEntry(TypedDict):
    """Something that should not be."""

    check: str
    severity: str
    message: str


class CountsEntry(TypedDict):
    """Errors at the threshold that was fixed beforehand."""

    false_positives: int
    held_out: int
    false_negatives: int
    inserted: int


class DetectableEntry(TypedDict):
    """Smallest fraction of missing noise that each check finds with probability `power`."""

    power: float
    membership: float
    conformance: float


class ScoresEntry(TypedDict):
    """The score of every lane."""

    inserted: list[float]
    held_out: list[float]


class MechanismEntry(TypedDict):
    """What of the plan decides what an audit of lanes can and cannot see."""

    unit: str
    update: str
    clipping: str


class AuditDocument(TypedDict):
    """The JSON of one audit; `hash` is SHA-256 over the canonical form of all other fields."""

    schema_version: int
    run_id: str
    sites: list[str]
    rounds: int
    mechanism: MechanismEntry
    verdict: str
    exit_code: int
    claimed: float
    delta: float
    ceiling: float
    lower_bound: float
    confidence: float
    bounds: list[BoundEntry]
    tests: list[TestEntry]
    findings: list[FindingEntry]
    sigma_ratio: list[float | None]
    detectable: float
    detectable_by: str
    detectable_checks: DetectableEntry
    counts: CountsEntry
    scores: ScoresEntry
    claimed_curve: list[list[float]]
    previous: str | None
    hash: str
