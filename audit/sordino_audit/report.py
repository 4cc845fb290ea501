"""An audit of lanes as a document: what each result puts into the envelope.

Figures are copied, never computed anew, so that a document and the audit that it is of cannot
differ. Words come from `audit_words`; other kinds of audits are in `report_kinds`.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from sordino_audit.attacks.results import FALSE_POSITIVE_RATES, auc, tpr_at_fpr
from sordino_audit.audit_document import (
    SCHEMA_VERSION,
    AuditDocument,
    MechanismEntry,
    RunDetail,
    SiteDetail,
)
from sordino_audit.audit_entries import (
    AttackEntry,
    BoundEntry,
    CanaryCost,
    CountsEntry,
    EValueEntry,
    FindingEntry,
    MeasurementEntry,
    PowerEntry,
    TestEntry,
)
from sordino_audit.audit_words import plain_verdict, unseen_at_site, unseen_by_server
from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.comparisons import Comparison
from sordino_audit.e_values import EValue
from sordino_audit.findings import Finding, Interval
from sordino_audit.lane_bounds import Bound
from sordino_audit.lane_tests import Test
from sordino_audit.lanes import LaneAudit
from sordino_audit.occasion import Occasion, provenance
from sordino_audit.preregistration import POWER, Detectable
from sordino_audit.sealing import UNSEALED, sealed
from sordino_audit.site_audit import SiteAudit
from sordino_protocols.plan import TrainingPlan

_LN_10 = math.log(10)
_SCORE_DIGITS = 4
_LANE_ATTACK = "canary lanes"
_LANE_ASSUMPTION = "the noisy sums of every round, and what the plan says of them"
_OF_ALL_ROUNDS = "fixed beforehand"
_OF_STEPS = "of single steps, fixed beforehand"


def run_document(
    audit: LaneAudit, *, run_id: str, occasion: Occasion, left_out: Sequence[str] = ()
) -> AuditDocument:
    """The document of an audit of a run as the server saw it.

    Args:
        audit: the result.
        run_id: the run that was audited.
        occasion: when, and after which document.
        left_out: sites that took part and could not be audited.
    """
    # With one layer, the noise of all lanes is that of the layer.
    separate = audit.layers if len(audit.layers) > 1 else ()
    layers = _layers("canary noise in layer", separate, confidence=audit.confidence)
    return _lanes_document(
        audit,
        subject=run_id,
        run_id=run_id,
        measurements=(measurement("noise", audit.noise, confidence=audit.confidence), *layers),
        blind_spots=unseen_by_server(
            audit.plan,
            sites=len(audit.sites),
            left_out=left_out,
            claimed=audit.claim.epsilon,
            ceiling=audit.ceiling,
        ),
        canaries=audit.plan.lanes * len(audit.sites),
        detail=RunDetail(kind="run", sites=audit.sites, mechanism=_mechanism(audit.plan)),
        occasion=occasion,
    )


def site_document(audit: SiteAudit, *, occasion: Occasion) -> AuditDocument:
    """The document of an audit of a run at one site. It stays at that site.

    Args:
        audit: the result.
        occasion: when, and after which document.
    """
    named = (
        ("noise in the lanes", audit.noise),
        ("weight of a canary", audit.clipping),
        ("sampling rate", audit.sampling),
    )
    measured = [measurement(name, each, confidence=audit.confidence) for name, each in named]
    layers = _layers("model noise in layer", audit.layers, confidence=audit.confidence)
    return _lanes_document(
        audit,
        subject=f"{audit.site}-{audit.run_id}",
        run_id=audit.run_id,
        measurements=(*measured, *layers),
        blind_spots=unseen_at_site(audit.plan, rounds_seen=audit.rounds_seen),
        canaries=audit.plan.lanes,
        detail=SiteDetail(
            kind="site",
            site=audit.site,
            rounds_seen=audit.rounds_seen,
            mechanism=_mechanism(audit.plan),
        ),
        occasion=occasion,
    )


def _lanes_document(
    audit: LaneAudit | SiteAudit,
    *,
    subject: str,
    run_id: str,
    measurements: Sequence[MeasurementEntry],
    blind_spots: Sequence[str],
    canaries: int,
    detail: RunDetail | SiteDetail,
    occasion: Occasion,
) -> AuditDocument:
    power = audit.could_have_found
    threshold = _OF_ALL_ROUNDS if detail.kind == "run" else _OF_STEPS
    document = AuditDocument(
        schema_version=SCHEMA_VERSION,
        kind=detail.kind,
        subject=subject,
        run_id=run_id,
        issued_at=occasion.stamp,
        verdict=audit.verdict,
        exit_code=audit.exit_code,
        sentence=plain_verdict(audit.verdict, audit.findings, power=power),
        claimed=audit.claim.epsilon,
        delta=audit.claim.delta,
        ceiling=audit.ceiling,
        lower_bound=audit.lower_bound,
        confidence=audit.confidence,
        detectable=audit.detectable.deficit,
        bounds=(
            *bound_entries(audit.bounds, confidence=audit.confidence),
            *_compared(audit.comparisons, confidence=audit.confidence),
        ),
        tests=test_entries(audit.tests),
        findings=finding_entries(audit.findings),
        probes=(),
        e_values=_e_values(audit.e_values),
        attacks=(_lane_attack(audit, power),),
        counts=(counts_entry(audit.counts, threshold=threshold),),
        claimed_curve=audit.claimed_curve,
        measurements=tuple(measurements),
        power=_power(audit.detectable, power, layers=audit.plan.lane_groups),
        blind_spots=tuple(blind_spots),
        canary_cost=_canary_cost(audit.plan, canaries=canaries),
        provenance=provenance(occasion),
        detail=detail,
        previous=occasion.previous,
        hash=UNSEALED,
    )
    return sealed(document)


def bound_entries(bounds: Iterable[Bound], *, confidence: float) -> tuple[BoundEntry, ...]:
    """Lower bounds on epsilon, in their order."""
    return tuple(
        BoundEntry(
            name=each.name,
            assumption=each.assumption,
            standing="bound",
            epsilon_low=finite(each.epsilon_low),
            confidence=confidence,
        )
        for each in bounds
    )


def _compared(comparisons: Iterable[Comparison], *, confidence: float) -> tuple[BoundEntry, ...]:
    return tuple(
        BoundEntry(
            name=each.name,
            assumption=each.assumption,
            standing=each.standing,
            epsilon_low=finite(each.epsilon_low),
            confidence=confidence,
        )
        for each in comparisons
    )


def finding_entries(findings: Iterable[Finding]) -> tuple[FindingEntry, ...]:
    """What should not be."""
    return tuple(
        FindingEntry(check=each.check, severity=each.severity, message=each.message)
        for each in findings
    )


def counts_entry(counts: Counts, *, threshold: str) -> CountsEntry:
    """Errors at a threshold that was fixed beforehand."""
    return CountsEntry(
        threshold=threshold,
        false_positives=counts.false_positives,
        held_out=counts.held_out,
        false_negatives=counts.false_negatives,
        inserted=counts.inserted,
    )


def measurement(
    name: str, measured: Interval, *, confidence: float, expected: float = 1.0
) -> MeasurementEntry:
    """A measured quantity; most are over their claimed value, so that 1 is expected."""
    return MeasurementEntry(
        name=name,
        expected=expected,
        low=finite(measured.low),
        value=finite(measured.estimate),
        high=finite(measured.high),
        confidence=confidence,
    )


def finite(value: float) -> float | None:
    """What JSON can say of a number."""
    return value if math.isfinite(value) else None


def rounded_scores(scores: Iterable[float]) -> tuple[float, ...]:
    """Scores in few digits, none of them infinite: an attack may be that sure."""
    largest = 1e9
    return tuple(round(min(max(each, -largest), largest), _SCORE_DIGITS) for each in scores)


def test_entries(tests: Iterable[Test]) -> tuple[TestEntry, ...]:
    """Tests of the claim."""
    return tuple(
        TestEntry(name=each.name, assumption=each.assumption, p_value=each.p_value)
        for each in tests
    )


def _lane_attack(audit: LaneAudit | SiteAudit, power: str) -> AttackEntry:
    inserted, held_out = np.array(audit.scores_inserted), np.array(audit.scores_held_out)
    has_both = bool(inserted.size and held_out.size)
    return AttackEntry(
        name=_LANE_ATTACK,
        assumption=_LANE_ASSUMPTION,
        inserted=rounded_scores(audit.scores_inserted),
        held_out=rounded_scores(audit.scores_held_out),
        auc=auc(inserted, held_out) if has_both else None,
        tpr_at=tuple((rate, tpr_at_fpr(inserted, held_out, rate)) for rate in FALSE_POSITIVE_RATES)
        if has_both
        else (),
        epsilon_low=finite(audit.lower_bound),
        confidence=audit.confidence,
        could_have_found=power,
    )


def _e_values(found: Sequence[EValue]) -> tuple[EValueEntry, ...]:
    return tuple(
        EValueEntry(
            site=each.site,
            test=each.test,
            log10_value=each.log_value / _LN_10,
            pairs=each.pairs,
            history=tuple(value / _LN_10 for value in each.history),
        )
        for each in found
    )


def _layers(
    name: str, layers: Sequence[Interval], *, confidence: float
) -> tuple[MeasurementEntry, ...]:
    return tuple(
        measurement(f"{name} {number}", each, confidence=confidence)
        for number, each in enumerate(layers, start=1)
    )


def _power(detectable: Detectable, sentence: str, *, layers: int) -> PowerEntry:
    in_one = {"by its scale, in one layer alone": detectable.in_one_layer} if layers > 1 else {}
    return PowerEntry(
        sentence=sentence,
        probability=POWER,
        checks={
            "by the scale of the noise": detectable.by_conformance,
            **in_one,
            "assuming nothing of the noise": detectable.by_membership,
        },
    )


def _mechanism(plan: TrainingPlan) -> MechanismEntry:
    return MechanismEntry(
        unit=plan.unit,
        update=plan.update,
        clipping=plan.clipping.kind,
        sampling_rate=plan.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        rounds=plan.rounds,
        local_steps=plan.local_steps,
        lanes=plan.lanes,
        lane_groups=plan.lane_groups,
    )


def _canary_cost(plan: TrainingPlan, *, canaries: int) -> CanaryCost:
    return CanaryCost(
        canaries=canaries,
        coordinates=plan.lane_coordinates,
        sentence=(
            "None to the model: a canary's gradient is zero in every coordinate that the model "
            "has, and every divisor is a constant of the job. It costs time, and "
            f"{plan.lane_coordinates} more numbers in each message."
        ),
    )
