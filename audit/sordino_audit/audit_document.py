"""The document of an audit: one envelope for every kind, strict, with a published schema.

A document says everything that its page shows, words included, so that what a person read is what
was hashed. Nothing in it is derived from a record: canaries are synthetic, noise is noise, and what
an audit computes on real members does not get this far. The schema lies in
`docs/audit-report.schema.json`; how a document is hashed, written and read is in `sealing`.
"""

import json
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, Field, model_validator

from sordino_audit.audit_entries import (
    AttackEntry,
    BoundEntry,
    CanaryCost,
    CountsEntry,
    EValueEntry,
    FindingEntry,
    MeasurementEntry,
    Points,
    PowerEntry,
    ProbeEntry,
    Provenance,
    Share,
    TestEntry,
)
from sordino_audit.findings import Verdict
from sordino_protocols.files import STRICT

SCHEMA_VERSION: Final = 3

Kind = Literal["run", "site", "self-test", "replay", "inference", "synthesis"]
"""What was audited: a run as the server saw it, a run at a site, the code of an installation,
federations re-run for the purpose, what a model lets be inferred of attributes, or the code that
makes synthetic records."""


class MechanismEntry(BaseModel):
    """What of the plan decides what an audit of lanes can and cannot see."""

    model_config = STRICT

    unit: str
    update: str
    clipping: str
    sampling_rate: float
    noise_multiplier: float
    rounds: int
    local_steps: int
    lanes: int
    lane_groups: int


class RunDetail(BaseModel):
    """An audit of a run as the server saw it."""

    model_config = STRICT

    kind: Literal["run"]
    sites: tuple[str, ...]
    mechanism: MechanismEntry


class SiteDetail(BaseModel):
    """An audit of a run at one site, step by step. Its document stays at the site.

    Attributes:
        site: the site's name.
        rounds_seen: how many rounds the site noted.
        mechanism: of the plan.
    """

    model_config = STRICT

    kind: Literal["site"]
    site: str
    rounds_seen: int
    mechanism: MechanismEntry


class SelfTestDetail(BaseModel):
    """A test of the code and configuration of one installation.

    Attributes:
        fingerprint: of code, versions, processor and settings; another one needs another test.
    """

    model_config = STRICT

    kind: Literal["self-test"]
    fingerprint: str


class CheckpointEntry(BaseModel):
    """What the aggregated model of a round showed of its canaries.

    Attributes:
        poisons: of each canary, at another site.
        round: after which the model was attacked.
        auc: area under the ROC curve.
        tpr_at: (false positive rate, true positive rate).
        exposure: of inserted canaries, in bits, on average (Carlini et al. 2019).
        exposure_out: of canaries that were not inserted.
    """

    model_config = STRICT

    poisons: int
    round: int
    auc: Share
    tpr_at: Points
    exposure: float
    exposure_out: float


class CanaryKindEntry(BaseModel):
    """How well canaries of one kind are told.

    Attributes:
        kind: of canary.
        poisons: of each, at another site.
        canaries: in all judged federations.
        auc: of the attack on the released model.
        auc_gradients: of the attack on what the site released.
    """

    model_config = STRICT

    kind: str
    poisons: int
    canaries: int
    auc: Share
    auc_gradients: Share


class ReplayDetail(BaseModel):
    """Federations that were run again, with and without canaries.

    Attributes:
        federations: how many.
        sites: in each of them.
        rounds: of each of them.
        canaries: inserted or not, in each of them.
        poisons: of each canary, at another site, in the second half of the replay; 0 without one.
        records: where they are from, in words.
        plan_sha256: of what was run.
        checkpoints: the aggregated model, attacked in the course of the rounds.
        kinds: by kind of canary.
    """

    model_config = STRICT

    kind: Literal["replay"]
    federations: int
    sites: int
    rounds: int
    canaries: int
    poisons: int
    records: str
    plan_sha256: str
    checkpoints: tuple[CheckpointEntry, ...]
    kinds: tuple[CanaryKindEntry, ...]


class InferenceDetail(BaseModel):
    """What a model lets be inferred beyond what anybody could infer without it.

    Attributes:
        inferred: an attribute of each record, or a property of a site's data.
        target: its name.
        right: the attack's share of right guesses.
        baseline: that of somebody who never saw the model.
        guesses: how many were judged.
        tolerance: advantage from which it is worth a second look.
    """

    model_config = STRICT

    kind: Literal["inference"]
    inferred: Literal["attribute", "property"]
    target: str
    right: Share
    baseline: Share
    guesses: int
    tolerance: float


class DiagnosticEntry(BaseModel):
    """Distances of rows to records: shown because they are asked for, and of no weight.

    Attributes:
        label: what they are worth.
        identical: share of synthetic rows that some record equals.
        identical_among_strangers: the same of records that were not there.
        median: positions in which a row differs from the closest record, in the middle of all rows.
        median_of_strangers: the same of records that were not there.
    """

    model_config = STRICT

    label: str
    identical: Share
    identical_among_strangers: Share
    median: float
    median_of_strangers: float


class SynthesisDetail(BaseModel):
    """The code that makes synthetic records, with a job's plan and made-up records.

    Attributes:
        generator: how records are made.
        mode: what is released.
        releases: whole releases that were made for attacks on rows.
        records: made-up members of each.
        largest_advantage: of guesses of membership, as far as the claim allows.
        discriminator: AUC of a discriminator against a neural generator; absent for others.
        nearest: a diagnostic that nothing rests on.
    """

    model_config = STRICT

    kind: Literal["synthesis"]
    generator: str
    mode: str
    releases: int
    records: int
    largest_advantage: Share
    discriminator: Share | None
    nearest: DiagnosticEntry


Detail = Annotated[
    RunDetail | SiteDetail | SelfTestDetail | ReplayDetail | InferenceDetail | SynthesisDetail,
    Field(discriminator="kind"),
]


class AuditDocument(BaseModel):
    """The JSON of one audit.

    Attributes:
        schema_version: of this schema.
        kind: what was audited.
        subject: its name, as in the file's name in a series of reports.
        run_id: the run; absent for audits of code.
        issued_at: RFC 3339 UTC.
        verdict: the outcome.
        exit_code: of the command that made it.
        sentence: the outcome in words.
        claimed: epsilon that was promised; absent where epsilon is not what is audited.
        delta: of that.
        ceiling: the largest epsilon that the audit's view could have shown.
        lower_bound: the bound that assumes the least.
        confidence: of bounds and intervals, where they say no other.
        detectable: the smallest share of missing noise that would have been found; 1 means none.
        bounds: lower figures for epsilon, rising in what they assume.
        tests: of the claim.
        findings: what should not be.
        probes: the checklist.
        e_values: evidence kept across runs.
        attacks: with their scores.
        counts: errors at thresholds, for the plane of both error rates.
        claimed_curve: (false positive rate, smallest false negative rate that the claim allows).
        measurements: of what was claimed.
        power: what could have been found.
        blind_spots: what could not have been seen, a sentence each.
        canary_cost: what canaries cost the model; absent where there were none.
        provenance: what made it.
        detail: facts of its kind.
        previous: hash of the document before it in its series; absent for the first.
        hash: SHA-256 over the canonical form of all other fields; 64 hex digits.
    """

    model_config = STRICT

    schema_version: Literal[3]
    kind: Kind
    subject: str
    run_id: str | None
    issued_at: str
    verdict: Verdict
    exit_code: int
    sentence: str
    claimed: float | None
    delta: float | None
    ceiling: float | None
    lower_bound: float | None
    confidence: Share
    detectable: Share | None
    bounds: tuple[BoundEntry, ...]
    tests: tuple[TestEntry, ...]
    findings: tuple[FindingEntry, ...]
    probes: tuple[ProbeEntry, ...]
    e_values: tuple[EValueEntry, ...]
    attacks: tuple[AttackEntry, ...]
    counts: tuple[CountsEntry, ...]
    claimed_curve: Points
    measurements: tuple[MeasurementEntry, ...]
    power: PowerEntry
    blind_spots: tuple[str, ...]
    canary_cost: CanaryCost | None
    provenance: Provenance
    detail: Detail
    previous: str | None
    hash: str

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.kind != self.detail.kind:
            raise ValueError(f"an audit of kind {self.kind!r} with facts of a {self.detail.kind!r}")
        if self.exit_code != self.verdict.exit_code:
            raise ValueError(f"verdict {self.verdict.value!r} has another exit code")
        return self


def schema_json() -> str:
    """The JSON Schema as it is published."""
    return json.dumps(AuditDocument.model_json_schema(), indent=2) + "\n"
