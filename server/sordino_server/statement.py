"""The statement of a run: what every site charged for it, and what the federation learnt.

It is made from the sites' signed receipts and published beside the model. Strict when read: a
statement that was touched by hand and no longer fits is an error, not a guess.
"""

from pydantic import BaseModel

from sordino_protocols.files import STRICT
from sordino_protocols.job import Job
from sordino_protocols.messages import Quote, Receipt, Refusal
from sordino_protocols.scorecard import Scorecard


class AdmissionFacts(BaseModel):
    """What a site declared when it was admitted; see `messages.Admission`."""

    model_config = STRICT

    order_of_magnitude: int
    feature_count: int
    coins_commitment: str
    ledger_head: str


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
    budget_limit: float
    budget_left: float
    network_cut_off: bool
    coins: str
    coins_salt: str
    ledger_head: str


class EvaluationFacts(BaseModel):
    """The noisy evaluation, summed over the sites that answered.

    Attributes:
        accuracy: share of held-out records on the right side of one half.
        accuracy_interval: lower and upper end, at `confidence`.
        auc: area under the ROC curve.
        auc_interval: likewise.
        confidence: of each interval alone.
        histogram: [class][bin], noisy counts; negative class first.
        noise_std: standard deviation of the noise on each cell.
        sites: who answered.
    """

    model_config = STRICT

    accuracy: float
    accuracy_interval: tuple[float, float]
    auc: float
    auc_interval: tuple[float, float]
    confidence: float
    histogram: tuple[tuple[float, ...], tuple[float, ...]]
    noise_std: float
    sites: tuple[str, ...]


class Admissions(BaseModel):
    """What all sites of a run declared."""

    model_config = STRICT

    sites: dict[str, AdmissionFacts]


class QuoteFacts(BaseModel):
    """A site's answer to what a job would cost; see `messages.Quote`."""

    model_config = STRICT

    refusal: Refusal | None
    rule: str
    epsilon_pld: float
    epsilon_rdp: float
    budget_left: float


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
        receipts: by site; a site that never sent one is missing here and present in `admissions`.
    """

    model_config = STRICT

    run_id: str
    job: Job
    job_digest: str
    submitter: str
    evaluation: EvaluationFacts
    admissions: dict[str, AdmissionFacts]
    receipts: dict[str, ReceiptFacts]


def evaluation_facts(
    card: Scorecard, histogram: list[list[float]], *, noise_std: float, sites: list[str]
) -> EvaluationFacts:
    """What is published of an evaluation."""
    negative, positive = histogram
    return EvaluationFacts(
        accuracy=card.accuracy.value,
        accuracy_interval=(card.accuracy.lower, card.accuracy.upper),
        auc=card.auc.value,
        auc_interval=(card.auc.lower, card.auc.upper),
        confidence=card.confidence,
        histogram=(tuple(negative), tuple(positive)),
        noise_std=noise_std,
        sites=tuple(sites),
    )


def receipt_facts(receipt: Receipt) -> ReceiptFacts:
    """What is published of a receipt: all of it."""
    return ReceiptFacts(**{name: getattr(receipt, name) for name in ReceiptFacts.model_fields})


def quote_facts(quote: Quote) -> QuoteFacts:
    """What is told of a quote: all of it."""
    return QuoteFacts(**{name: getattr(quote, name) for name in QuoteFacts.model_fields})
