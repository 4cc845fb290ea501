"""Audits without lanes as documents: self-tests, replays of federations, and inference."""

import math
from collections.abc import Iterable

from sordino_audit.attacks.results import AttackResult
from sordino_audit.audit_document import (
    SCHEMA_VERSION,
    AuditDocument,
    CanaryKindEntry,
    CheckpointEntry,
    InferenceDetail,
    ReplayDetail,
    SelfTestDetail,
)
from sordino_audit.audit_entries import AttackEntry, PowerEntry, ProbeEntry
from sordino_audit.audit_words import (
    UNSEEN_BY_SELF_TEST,
    inferred_verdict,
    plain_verdict,
    tested_verdict,
)
from sordino_audit.findings import ProbeOutcome
from sordino_audit.inference.result import InferenceAudit
from sordino_audit.occasion import Occasion, provenance
from sordino_audit.probes.self_test import SelfTest
from sordino_audit.replay.result import CheckpointLeak, KindLeak, ReplayAudit
from sordino_audit.report import (
    bound_entries,
    finding_entries,
    finite,
    measurement,
    rounded_scores,
    test_entries,
)
from sordino_audit.sealing import UNSEALED, sealed

_CERTAIN = 1.0


def self_test_document(found: SelfTest, *, subject: str, occasion: Occasion) -> AuditDocument:
    """The document of a self-test.

    Args:
        found: the result.
        subject: whose installation was tested.
        occasion: when, and after which document.
    """
    document = AuditDocument(
        schema_version=SCHEMA_VERSION,
        kind="self-test",
        subject=subject,
        run_id=None,
        issued_at=occasion.stamp,
        verdict=found.verdict,
        exit_code=found.exit_code,
        sentence=tested_verdict(found.outcomes),
        claimed=None,
        delta=None,
        ceiling=None,
        lower_bound=None,
        confidence=_CERTAIN,
        detectable=None,
        bounds=(),
        tests=(),
        findings=(),
        probes=probe_entries(found.outcomes),
        e_values=(),
        attacks=(),
        counts=(),
        claimed_curve=(),
        measurements=(),
        power=PowerEntry(sentence=found.could_have_found, probability=None, checks={}),
        blind_spots=tuple(UNSEEN_BY_SELF_TEST),
        canary_cost=None,
        provenance=provenance(occasion),
        detail=SelfTestDetail(kind="self-test", fingerprint=found.fingerprint),
        previous=occasion.previous,
        hash=UNSEALED,
    )
    return sealed(document)


def probe_entries(outcomes: Iterable[ProbeOutcome]) -> tuple[ProbeEntry, ...]:
    """The checklist."""
    return tuple(
        ProbeEntry(
            name=each.name,
            is_passed=each.is_passed,
            message=each.message,
            seconds=round(each.seconds, 4),
        )
        for each in outcomes
    )


def replay_document(audit: ReplayAudit, *, subject: str, occasion: Occasion) -> AuditDocument:
    """The document of a replay.

    Args:
        audit: the result.
        subject: the job that was run again.
        occasion: when, and after which document.
    """
    document = AuditDocument(
        schema_version=SCHEMA_VERSION,
        kind="replay",
        subject=subject,
        run_id=None,
        issued_at=occasion.stamp,
        verdict=audit.verdict,
        exit_code=audit.exit_code,
        sentence=plain_verdict(audit.verdict, audit.findings, power=audit.could_have_found),
        claimed=audit.claim.epsilon,
        delta=audit.claim.delta,
        ceiling=audit.ceiling,
        lower_bound=audit.lower_bound,
        confidence=audit.confidence,
        detectable=audit.detectable,
        bounds=bound_entries(audit.bounds, confidence=audit.confidence),
        tests=test_entries(audit.tests),
        findings=finding_entries(audit.findings),
        probes=(),
        e_values=(),
        attacks=tuple(attack_entry(each) for each in audit.attacks),
        counts=(),
        claimed_curve=(),
        measurements=tuple(
            measurement(f"noise in layer {number}", each, confidence=audit.confidence)
            for number, each in enumerate(audit.noise, start=1)
        ),
        power=PowerEntry(sentence=audit.could_have_found, probability=None, checks={}),
        blind_spots=audit.blind_spots,
        canary_cost=None,
        provenance=provenance(occasion),
        detail=_replay_detail(audit),
        previous=occasion.previous,
        hash=UNSEALED,
    )
    return sealed(document)


def inference_document(audit: InferenceAudit, *, occasion: Occasion) -> AuditDocument:
    """The document of an audit of inference.

    Args:
        audit: the result.
        occasion: when, and after which document.
    """
    advantages = {"advantage": audit.advantage, "advantage on others": audit.on_others}
    document = AuditDocument(
        schema_version=SCHEMA_VERSION,
        kind="inference",
        subject=audit.target,
        run_id=None,
        issued_at=occasion.stamp,
        verdict=audit.verdict,
        exit_code=audit.exit_code,
        sentence=inferred_verdict(audit),
        claimed=None,
        delta=None,
        ceiling=None,
        lower_bound=None,
        confidence=audit.confidence,
        detectable=None,
        bounds=(),
        tests=(),
        findings=finding_entries(audit.findings),
        probes=(),
        e_values=(),
        attacks=(),
        counts=(),
        claimed_curve=(),
        measurements=tuple(
            measurement(name, each, confidence=audit.confidence, expected=0.0)
            for name, each in advantages.items()
            if math.isfinite(each.estimate)
        ),
        power=PowerEntry(sentence=audit.could_have_found, probability=None, checks={}),
        blind_spots=audit.blind_spots,
        canary_cost=None,
        provenance=provenance(occasion),
        detail=InferenceDetail(
            kind="inference",
            inferred=audit.kind,
            target=audit.target,
            right=audit.right,
            baseline=audit.baseline,
            guesses=audit.guesses,
            tolerance=audit.tolerance,
        ),
        previous=occasion.previous,
        hash=UNSEALED,
    )
    return sealed(document)


def _replay_detail(audit: ReplayAudit) -> ReplayDetail:
    return ReplayDetail(
        kind="replay",
        federations=audit.federations,
        sites=audit.sites,
        rounds=audit.rounds,
        canaries=audit.canaries,
        poisons=audit.poisons,
        records=audit.records,
        plan_sha256=audit.plan_sha256,
        checkpoints=tuple(_checkpoint(each) for each in audit.checkpoints),
        kinds=tuple(_kind(each) for each in audit.kinds),
    )


def _checkpoint(leak: CheckpointLeak) -> CheckpointEntry:
    return CheckpointEntry(
        poisons=leak.poisons,
        round=leak.round,
        auc=leak.auc,
        tpr_at=leak.tpr_at,
        exposure=leak.exposure,
        exposure_out=leak.exposure_out,
    )


def _kind(leak: KindLeak) -> CanaryKindEntry:
    return CanaryKindEntry(
        kind=leak.kind,
        poisons=leak.poisons,
        canaries=leak.canaries,
        auc=leak.auc,
        auc_gradients=leak.auc_gradients,
    )


def attack_entry(result: AttackResult) -> AttackEntry:
    """An attack that has scores."""
    return AttackEntry(
        name=result.name,
        assumption=str(result.assumption),
        inserted=rounded_scores(result.members),
        held_out=rounded_scores(result.others),
        auc=result.auc,
        tpr_at=result.tpr_at,
        epsilon_low=finite(result.epsilon_low),
        confidence=result.confidence,
        could_have_found=result.could_have_found,
    )
