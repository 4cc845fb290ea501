"""What a site says by each refusal, in words that server, tools and documentation share."""

from collections.abc import Mapping
from types import MappingProxyType

from sordino_protocols.messages import Refusal

REFUSAL_WORDS: Mapping[Refusal, str] = MappingProxyType(
    {
        Refusal.MALFORMED: "it could not read what was said",
        Refusal.UNAUTHENTICATED: "it does not trust who signed the job, or the server",
        Refusal.NOT_ADMITTED: "it was never asked to take part",
        Refusal.CHANGED_REPLAY: "it answered the same with other contents before",
        Refusal.WRONG_SHAPE: "the weights are not those of the job or do not fit its features",
        Refusal.NOT_FINITE: "the weights are not finite numbers",
        Refusal.NO_POLICY: "it has no policy",
        Refusal.FORBIDDEN_BY_POLICY: "its policy does not allow this job",
        Refusal.APPROVAL_PENDING: "a person there has yet to approve it",
        Refusal.REJECTED: "a person there said no",
        Refusal.WRONG_TASK: "its label is of another kind",
        Refusal.UNTRAINABLE: "the model cannot be trained on its features",
        Refusal.BUDGET_EXHAUSTED: "its privacy budget does not suffice",
        Refusal.UNKNOWN_DATASET: "it has no such data set",
        Refusal.UNPRICEABLE: "it cannot price the job",
        Refusal.ACCOUNTANTS_DISAGREE: "its two accountants do not agree on the price",
        Refusal.OUT_OF_ORDER: "its run is further than that, or over",
        Refusal.INTEGRITY: "its ledger does not hold together",
        Refusal.UNAVAILABLE: "its disk is full, or its ledger's database is away",
        Refusal.INTERNAL: "something broke there; its own log says what",
    }
)
"""Every refusal, after the name of the site: "cleveland: it has no policy"."""
