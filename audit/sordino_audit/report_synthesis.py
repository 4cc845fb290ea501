"""An audit of a synthesis as a document."""

import numpy as np

from sordino_audit.audit_document import (
    SCHEMA_VERSION,
    AuditDocument,
    DiagnosticEntry,
    SynthesisDetail,
)
from sordino_audit.audit_entries import PowerEntry
from sordino_audit.audit_words import plain_verdict
from sordino_audit.bounds import gaussian
from sordino_audit.findings import Interval
from sordino_audit.lane_bounds import Bound
from sordino_audit.occasion import Occasion, provenance
from sordino_audit.report import bound_entries, counts_entry, finding_entries, finite, measurement
from sordino_audit.report_code import attack_entry, probe_entries
from sordino_audit.sealing import UNSEALED, sealed
from sordino_audit.synthesis.divergence import largest_advantage
from sordino_audit.synthesis.nearest import NearestRecords
from sordino_audit.synthesis.result import SynthesisAudit
from sordino_audit.synthesis.white_box import WhiteBox

_POINTS = 101
_THRESHOLD = "white box, fixed beforehand"


def synthesis_document(audit: SynthesisAudit, *, occasion: Occasion) -> AuditDocument:
    """The document of an audit of a synthesis.

    Args:
        audit: the result.
        occasion: when, and after which document.
    """
    bounds = bounds_of(audit.white_box)
    document = AuditDocument(
        schema_version=SCHEMA_VERSION,
        kind="synthesis",
        subject=audit.subject,
        run_id=None,
        issued_at=occasion.stamp,
        verdict=audit.verdict,
        exit_code=audit.exit_code,
        sentence=plain_verdict(audit.verdict, audit.findings, power=audit.could_have_found),
        claimed=audit.claim.epsilon,
        delta=audit.claim.delta,
        ceiling=audit.white_box.claimed_epsilon,
        lower_bound=finite(bounds[0].epsilon_low),
        confidence=audit.confidence,
        detectable=audit.detectable,
        bounds=bound_entries(bounds, confidence=audit.confidence),
        tests=(),
        findings=finding_entries(audit.findings),
        probes=probe_entries(audit.probes),
        e_values=(),
        attacks=tuple(attack_entry(each) for each in audit.attacks),
        counts=(counts_entry(audit.white_box.counts, threshold=_THRESHOLD),),
        claimed_curve=_curve(audit.white_box.claimed_mu),
        measurements=tuple(
            measurement(
                f"advantage by {each.query}",
                Interval(each.advantage.low, each.advantage.estimate, each.advantage.high),
                confidence=audit.confidence,
                expected=0.0,
            )
            for each in audit.divergences
        ),
        power=PowerEntry(sentence=audit.could_have_found, probability=None, checks={}),
        blind_spots=audit.blind_spots,
        canary_cost=None,
        provenance=provenance(occasion),
        detail=_detail(audit),
        previous=occasion.previous,
        hash=UNSEALED,
    )
    return sealed(document)


def bounds_of(found: WhiteBox) -> tuple[Bound, ...]:
    """The white box's bounds on epsilon, in rising order of what is assumed."""
    return (
        Bound("Clopper-Pearson", "none on the noise; independent releases", found.epsilon_low),
        Bound(
            "Gaussian DP",
            "Gaussian noise of unknown scale",
            gaussian.epsilon_from_mu(found.mu_low_of_counts, found.delta),
        ),
        Bound(
            "all readings",
            "Gaussian noise of unknown scale, the same in all releases",
            gaussian.epsilon_from_mu(found.mu_low, found.delta),
        ),
    )


def _curve(mu: float) -> tuple[tuple[float, float], ...]:
    rates = np.linspace(0, 1, _POINTS)
    allowed = gaussian.trade_off(mu, rates)
    return tuple(zip(rates.tolist(), allowed.tolist(), strict=True))


def _detail(audit: SynthesisAudit) -> SynthesisDetail:
    return SynthesisDetail(
        kind="synthesis",
        generator=audit.generator,
        mode=audit.mode,
        releases=audit.releases,
        records=audit.records,
        largest_advantage=largest_advantage(audit.claim.epsilon, audit.claim.delta),
        discriminator=audit.discriminator,
        nearest=_diagnostic(audit.nearest),
    )


def _diagnostic(found: NearestRecords) -> DiagnosticEntry:
    return DiagnosticEntry(
        label=found.label,
        identical=found.identical,
        identical_among_strangers=found.identical_among_strangers,
        median=found.median,
        median_of_strangers=found.median_of_strangers,
    )
