"""The statement of a run: what every site charged for it, and what the federation learnt.

It is made from the sites' signed receipts and published beside the model. Strict when read: a
statement that was touched by hand and no longer fits is an error, not a guess.
"""

from pydantic import BaseModel

from sordino_protocols.certificate_facts import HeadFacts, head_facts
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.heads import SignedHead
from sordino_protocols.job import Job
from sordino_protocols.messages import Admission, Message, Quote, Receipt, Refusal
from sordino_protocols.plan import LossName
from sordino_protocols.scorecard import Figure
from sordino_server.table_facts import Counts, SynthesisFacts


class AdmissionFacts(BaseModel):
    """What a site declared when it was admitted; see `messages.Admission`."""

    model_config = STRICT

    order_of_magnitude: int
    feature_count: int
    measured: str = ""
    label_scale: float = 1.0
    coins_commitment: str
    ledger_head: HeadFacts


class ReceiptFacts(BaseModel):
    """What the run cost at a site; see `messages.Receipt`."""

    model_config = STRICT

    run_id: str
    job_digest: str
    epsilon_planned: float
    epsilon_spent_pld: float
    epsilon_spent_rdp: float
    delta: float
    events_json: str
    policy_sha256: str
    approvals_json: str
    budget_limit: float
    budget_delta: float
    budget_spent: float
    budget_left: float
    network_cut_off: bool
    coins: str
    coins_salt: str
    ledger_head: HeadFacts


class EstimateFacts(BaseModel):
    """A value with an interval that holds the truth with the evaluation's confidence."""

    model_config = STRICT

    value: float
    lower: float
    upper: float


class RocPointFacts(BaseModel):
    """What a threshold does; see `score_curves.RocPoint`."""

    model_config = STRICT

    threshold: float
    false_positive_rate: EstimateFacts
    true_positive_rate: EstimateFacts


class CalibrationBinFacts(BaseModel):
    """The observed rate of one bin of scores; see `score_curves.CalibrationBin`."""

    model_config = STRICT

    lower: float
    upper: float
    observed_rate: EstimateFacts


class EvaluationFacts(BaseModel):
    """The noisy evaluation, summed over the sites that answered.

    Attributes:
        loss: decides which figures there are, and what the histogram counts.
        metrics: figures by name, the most telling first; errors are in the label's units.
        recalls: by class, for "cross_entropy".
        confidence: of each interval alone.
        histogram: noisy counts, as `plan.EvaluationPlan` lays them out.
        noise_std: standard deviation of the noise on each cell.
        label_scale: what an error of 1 in a scaled label is, in the label's units.
        sites: who answered.
        roc: for "binary", by rising threshold; the intervals hold all together.
        calibration: for "binary", by score; the intervals hold all together.
        calibration_error: for "binary", the expected calibration error.
    """

    model_config = STRICT

    loss: LossName
    metrics: dict[Figure, EstimateFacts]
    recalls: tuple[EstimateFacts, ...]
    confidence: float
    histogram: tuple[tuple[float, ...], ...]
    noise_std: float
    label_scale: float
    sites: tuple[str, ...]
    roc: tuple[RocPointFacts, ...] = ()
    calibration: tuple[CalibrationBinFacts, ...] = ()
    calibration_error: EstimateFacts | None = None


class Admissions(BaseModel):
    """What all sites of a run declared."""

    model_config = STRICT

    sites: dict[str, AdmissionFacts]


class QuoteFacts(BaseModel):
    """A site's answer to what a job would cost; see `messages.Quote`."""

    model_config = STRICT

    refusal: Refusal | None
    needs_approval: bool
    rule: str
    epsilon_pld: float
    epsilon_rdp: float
    budget_left: float
    rounds_that_fit: int
    noise_that_fits: float


class Quotes(BaseModel):
    """What all sites said to an inquiry.

    Attributes:
        quotes: by site.
        refused: sites that would not even answer, and the enum they said.
        silent: sites that did not answer, and why not.
    """

    model_config = STRICT

    quotes: dict[str, QuoteFacts]
    refused: dict[str, str]
    silent: dict[str, str]


class Statement(BaseModel):
    """The whole statement.

    Attributes:
        evaluation: of a run with a model.
        synthesis: of a run that synthesized.
        counts: of a run that counted.
        receipts: by site; a site that never sent one is missing here and present in `admissions`.
    """

    model_config = STRICT

    run_id: str
    job: Job
    job_digest: str
    submitter: str
    evaluation: EvaluationFacts | None
    synthesis: SynthesisFacts | None = None
    counts: Counts | None = None
    admissions: dict[str, AdmissionFacts]
    receipts: dict[str, ReceiptFacts]

    def require_evaluation(self) -> EvaluationFacts:
        """The evaluation of a run with a model.

        Raises:
            InputError: the run has none.
        """
        if self.evaluation is None:
            raise InputError(f"run {self.run_id} has no model, and no evaluation")
        return self.evaluation


def admission_facts(admission: Admission) -> AdmissionFacts:
    """What is published of an admission."""
    return AdmissionFacts.model_validate(_facts(admission, AdmissionFacts))


def receipt_facts(receipt: Receipt) -> ReceiptFacts:
    """What is published of a receipt: all of it."""
    return ReceiptFacts.model_validate(_facts(receipt, ReceiptFacts))


def quote_facts(quote: Quote) -> QuoteFacts:
    """What is told of a quote: all of it."""
    return QuoteFacts.model_validate(_facts(quote, QuoteFacts))


def _facts(message: Message, kind: type[BaseModel]) -> dict[str, object]:
    values = {name: getattr(message, name) for name in kind.model_fields}
    return {
        name: head_facts(value) if isinstance(value, SignedHead) else value
        for name, value in values.items()
    }
