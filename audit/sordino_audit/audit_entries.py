"""The parts of an audit's document that every kind of audit may have.

All are strict and closed: what is not declared here is in no document.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_audit.findings import Severity
from sordino_protocols.files import STRICT

Standing = Literal["bound", "credible", "estimate", "convention"]
"""What a lower figure is worth: a bound holds with its confidence; the others do not, and no
verdict rests on them."""

Share = Annotated[float, Field(ge=0, le=1)]
Points = tuple[tuple[float, float], ...]


class BoundEntry(BaseModel):
    """A lower figure for epsilon.

    Attributes:
        name: the method.
        assumption: what must hold besides the confidence.
        standing: whether it is a bound at all.
        epsilon_low: the figure; absent if it is infinite.
        confidence: of it.
    """

    model_config = STRICT

    name: str
    assumption: str
    standing: Standing
    epsilon_low: float | None
    confidence: Share


class TestEntry(BaseModel):
    """A test of the claim; the p-value is not corrected for the number of tests."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    model_config = STRICT

    name: str
    assumption: str
    p_value: Share


class FindingEntry(BaseModel):
    """Something that should not be, in one sentence."""

    model_config = STRICT

    check: str
    severity: Severity
    message: str


class ProbeEntry(BaseModel):
    """A deterministic check, or one that errs at most once in a million times."""

    model_config = STRICT

    name: str
    is_passed: bool
    message: str
    seconds: float


class EValueEntry(BaseModel):
    """Evidence against a claim, kept across runs: the wealth of somebody who bets against it.

    Attributes:
        site: whose claim.
        test: what is bet on.
        log10_value: of the e-value; 1.3 is 20, 3 is 1,000.
        pairs: of lanes, or readings, seen so far.
        history: the same after each run that counted, oldest first.
    """

    model_config = STRICT

    site: str
    test: str
    log10_value: float
    pairs: int
    history: tuple[float, ...]


class CountsEntry(BaseModel):
    """Errors of guessing at a threshold.

    Attributes:
        threshold: how it was chosen.
        false_positives: held-out canaries taken for inserted.
        held_out: held-out canaries.
        false_negatives: inserted canaries missed.
        inserted: inserted canaries.
    """

    model_config = STRICT

    threshold: str
    false_positives: int
    held_out: int
    false_negatives: int
    inserted: int


class AttackEntry(BaseModel):
    """A membership attack, with all its scores.

    Attributes:
        name: the attack.
        assumption: what the attacker is given.
        inserted: scores of those who were members; higher means more likely one.
        held_out: scores of those who were not.
        auc: area under the ROC curve; absent without scores on both sides.
        tpr_at: (false positive rate, true positive rate).
        epsilon_low: what it shows of epsilon; absent where it shows nothing of it.
        confidence: of that.
        could_have_found: what it would have noticed.
    """

    model_config = STRICT

    name: str
    assumption: str
    inserted: tuple[float, ...]
    held_out: tuple[float, ...]
    auc: Share | None
    tpr_at: Points
    epsilon_low: float | None
    confidence: Share
    could_have_found: str


class MeasurementEntry(BaseModel):
    """A quantity that was claimed and measured, with its interval.

    Attributes:
        name: the quantity.
        expected: what was claimed.
        low: lower end of the interval; absent if unbounded.
        value: the estimate; absent if nothing was measured.
        high: upper end; absent if unbounded.
        confidence: of the interval.
    """

    model_config = STRICT

    name: str
    expected: float
    low: float | None
    value: float | None
    high: float | None
    confidence: Share


class PowerEntry(BaseModel):
    """What the audit could have found, computed before it looked where that is possible.

    Attributes:
        sentence: in words.
        probability: with which a fault of the stated size is found.
        checks: smallest share of missing noise that each check finds; 1 means none is.
    """

    model_config = STRICT

    sentence: str
    probability: Share | None
    checks: dict[str, Share]


class CanaryCost(BaseModel):
    """What the canaries cost the model.

    Attributes:
        canaries: how many there were.
        coordinates: released beside the model's own.
        sentence: what that did to the model.
    """

    model_config = STRICT

    canaries: int
    coordinates: int
    sentence: str


class Provenance(BaseModel):
    """What made this document, so that somebody else can make it again.

    Attributes:
        packages: versions of what decides the figures, `sordino` and `python` among them.
        job_sha256: of the audited job as it was signed; absent where there is none.
        seeds: of the audit's own choices; noise and coins have none, they are drawn for good.
        seconds: that the audit took.
    """

    model_config = STRICT

    packages: dict[str, str]
    job_sha256: str | None
    seeds: tuple[int, ...]
    seconds: float
