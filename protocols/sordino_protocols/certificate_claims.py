"""From what a submitter and the sites signed to what a certificate claims: one pure function.

The server calls it to issue a certificate and a verifier calls it to judge one, so a claim is
either what the evidence says or it is found. The rule for several sites stands in
`certificate_standards.COMPOSITION_RULE`.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from sordino_protocols.accounting import epsilon_by_pld, epsilon_by_rdp
from sordino_protocols.certificate_facts import (
    ApprovalFacts,
    BoundFacts,
    BudgetFacts,
    CompositionEntry,
    CompositionFacts,
    JobFacts,
    ReleaseFacts,
    SiteClaims,
    head_facts,
)
from sordino_protocols.certificate_standards import COMPOSITION_RULE
from sordino_protocols.errors import InputError, IntegrityError
from sordino_protocols.heads import verify_head
from sordino_protocols.job import Job, SignedJob
from sordino_protocols.messages import Admission, Receipt
from sordino_protocols.plan import RunPlan
from sordino_protocols.privacy import (
    Composed,
    Event,
    SelfComposed,
    event_from_json,
    event_to_json,
)
from sordino_protocols.signing import TrustStore, canonical_json
from sordino_protocols.trade_off import true_positive_bound
from sordino_protocols.wire import open_sealed

FALSE_POSITIVE_RATE = 0.01
_EACH_UP_TO = 8
_APPROVALS = TypeAdapter(tuple[ApprovalFacts, ...])


@dataclass(frozen=True, slots=True)
class SiteEvidence:
    """What a site signed, opened.

    Attributes:
        admission: what it declared.
        receipt: what it charged; None if it never said.
        charged: the receipt's events, in order; of a site without a receipt, those of the plan.
        approvals: that the receipt names.
    """

    admission: Admission
    receipt: Receipt | None
    charged: tuple[Event, ...]
    approvals: tuple[ApprovalFacts, ...]


def open_evidence(
    site: str, admission: bytes, receipt: bytes | None, *, job: Job, trust: TrustStore
) -> SiteEvidence:
    """Open a site's sealed messages.

    Args:
        site: who must have signed them, and the heads of its ledger inside.
        admission: the sealed admission.
        receipt: the sealed receipt, if there is one.
        job: what the run's plan is taken from.
        trust: has the site's key.

    Raises:
        AuthenticationError: the site did not sign it.
        PeerError: the bytes are no message.
        IntegrityError: they are other messages, or name events or approvals in no known way.
    """
    admitted = open_sealed(admission, trust)
    if admitted.sender != site or not isinstance(admitted.message, Admission):
        raise IntegrityError(f"this is no admission of site {site}")
    verify_head(admitted.message.ledger_head, site=site, trust=trust)
    if receipt is None:
        return SiteEvidence(admitted.message, None, tuple(planned_steps(job.plan)), ())
    settled = open_sealed(receipt, trust)
    if settled.sender != site or not isinstance(settled.message, Receipt):
        raise IntegrityError(f"this is no receipt of site {site}")
    verify_head(settled.message.ledger_head, site=site, trust=trust)
    message = settled.message
    return SiteEvidence(admitted.message, message, _charged(message), _approvals(message))


def job_facts(signed: SignedJob, job: Job) -> JobFacts:
    """The job, and what its body says."""
    return JobFacts(
        body=signed.body.decode("ascii"),
        digest=signed.digest,
        submitter=signed.submitter,
        purpose=signed.purpose,
        nonce=signed.nonce,
        signature=signed.signature.hex(),
        name=job.file.job.name,
        kind=job.file.job.kind,
        dataset=job.file.job.dataset,
        unit=job.file.require_privacy().unit,
        epsilon=job.file.require_privacy().epsilon,
        delta=job.file.require_privacy().delta,
    )


def site_claims(evidence: SiteEvidence, job: Job) -> SiteClaims:
    """What a site's evidence says; its events must be the plan's, see `surplus`."""
    admission, receipt = evidence.admission, evidence.receipt
    whole, delta = composed(evidence.charged), job.file.require_privacy().delta
    if receipt is None:
        planned = epsilon_by_pld(whole, delta) if whole else 0.0
        counted = epsilon_by_rdp(whole, delta) if whole else 0.0
        return SiteClaims(
            is_settled=False,
            order_of_magnitude=admission.order_of_magnitude,
            epsilon_planned=planned,
            epsilon_spent_pld=planned,
            epsilon_spent_rdp=counted,
            delta=delta,
            releases=_releases(evidence.charged),
            bound=bound_of(whole),
            policy_sha256=None,
            approvals=(),
            budget=None,
            network_cut_off=False,
            ledger_admitted=head_facts(admission.ledger_head),
            ledger_settled=None,
        )
    return SiteClaims(
        is_settled=True,
        order_of_magnitude=admission.order_of_magnitude,
        epsilon_planned=receipt.epsilon_planned,
        epsilon_spent_pld=receipt.epsilon_spent_pld,
        epsilon_spent_rdp=receipt.epsilon_spent_rdp,
        delta=receipt.delta,
        releases=_releases(evidence.charged),
        bound=bound_of(whole),
        policy_sha256=receipt.policy_sha256,
        approvals=evidence.approvals,
        budget=BudgetFacts(
            limit=receipt.budget_limit,
            delta=receipt.budget_delta,
            spent=receipt.budget_spent,
            left=receipt.budget_left,
        ),
        network_cut_off=receipt.network_cut_off,
        ledger_admitted=head_facts(admission.ledger_head),
        ledger_settled=head_facts(receipt.ledger_head),
    )


def composition(sites: Mapping[str, SiteEvidence], *, delta: float) -> CompositionFacts:
    """What a person at several sites loses, by how many."""
    charged = {name: composed(each.charged) for name, each in sites.items()}
    costs = {
        name: epsilon_by_pld(event, delta) if event else 0.0 for name, event in charged.items()
    }
    dearest = sorted(sites, key=lambda name: (-round(costs[name], 9), name))
    return CompositionFacts(
        rule=COMPOSITION_RULE,
        table=tuple(
            _composition_entry(dearest[:count], sites, delta=delta)
            for count in _table_sizes(len(dearest))
        ),
    )


def bound_of(event: Event | None) -> BoundFacts:
    """What an event means to one person; None is nothing at all."""
    rate = FALSE_POSITIVE_RATE
    return bound_facts(rate if event is None else true_positive_bound(event, rate))


def bound_facts(true_positive_rate: float) -> BoundFacts:
    """A bound and its sentence, rounded up to a tenth of a percent."""
    # A rounding error of the product must not become a tenth of a percent.
    percent = math.ceil(round(1000 * true_positive_rate, 6)) / 10
    return BoundFacts(
        false_positive_rate=FALSE_POSITIVE_RATE,
        true_positive_rate=true_positive_rate,
        words="An attacker who knows everything that was released and all other records, and"
        f" tolerates {FALSE_POSITIVE_RATE:.0%} false accusations, recognises at most {percent:g}%"
        " of the members.",
    )


def planned_steps(plan: RunPlan) -> list[Event]:
    """The events that a site may charge for a run, each as often as it may."""
    steps: list[Event] = [] if plan.statistics is None else [plan.statistics.event]
    if plan.training is not None:
        steps += [plan.training.round_event] * plan.training.rounds
    if plan.evaluation is not None:
        steps.append(plan.evaluation.event)
    if plan.tabulation is not None:
        steps.append(plan.tabulation.event)
    return steps


def surplus(evidence: SiteEvidence, job: Job) -> int:
    """How many charged events the job's plan does not have; what is not planned is not priced."""
    return (Counter(evidence.charged) - Counter(planned_steps(job.plan))).total()


def table_costs(job: Job) -> tuple[float, float]:
    """What a table's release costs by PLD, and what it costs if nobody else is trusted."""
    plan, delta = job.plan, job.file.require_privacy().delta
    alone = epsilon_by_pld(plan.event, delta)
    if plan.synthesis is None or plan.synthesis.mode != "sum":
        return alone, alone
    return epsilon_by_pld(plan.synthesis.whole_event, delta), alone


def composed(events: Sequence[Event]) -> Event | None:
    """Everything as one event, equal steps together; None for nothing."""
    if not events:
        return None
    return Composed(tuple(SelfComposed(event, times) for event, times in Counter(events).items()))


def _composition_entry(
    names: Sequence[str], sites: Mapping[str, SiteEvidence], *, delta: float
) -> CompositionEntry:
    whole = composed([event for name in names for event in sites[name].charged])
    return CompositionEntry(
        sites=len(names),
        dearest=tuple(names),
        epsilon=epsilon_by_pld(whole, delta) if whole else 0.0,
        delta=delta,
        bound=bound_of(whole),
    )


def _table_sizes(sites: int) -> list[int]:
    """Every number up to 8, then doublings, and all."""
    doubled = [2**power for power in range(4, sites.bit_length())]
    return sorted({*range(1, min(sites, _EACH_UP_TO) + 1), *doubled, sites} - {0})


def _charged(receipt: Receipt) -> tuple[Event, ...]:
    try:
        raw = json.loads(receipt.events_json)
        if canonical_json(raw).decode("ascii") != receipt.events_json:
            raise IntegrityError("the receipt's events are not in canonical form")
        return tuple(event_from_json(each) for each in raw)
    except (ValueError, TypeError, AttributeError, RecursionError, InputError):
        raise IntegrityError("the receipt's events cannot be read") from None


def _releases(events: Sequence[Event]) -> tuple[ReleaseFacts, ...]:
    counts: dict[bytes, int] = {}
    for event in events:
        spelled = canonical_json(event_to_json(event))
        counts[spelled] = counts.get(spelled, 0) + 1
    return tuple(
        ReleaseFacts(event=json.loads(spelled), times=count) for spelled, count in counts.items()
    )


def _approvals(receipt: Receipt) -> tuple[ApprovalFacts, ...]:
    try:
        return _APPROVALS.validate_json(receipt.approvals_json)
    except ValidationError:
        raise IntegrityError("the receipt's approvals cannot be read") from None
