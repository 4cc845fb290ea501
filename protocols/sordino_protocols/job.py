"""The job file, strictly read, and its canonical, signed form.

A job is data: it names a data set, a model from the allow-list and the privacy it may cost. A
person writes a `JobFile`; `pricing.resolve` adds the noise that the wanted epsilon needs and makes
it a `Job`: that is what is signed, sent, pinned by its digest, and priced again at every site from
the noise it really asks for. What must stay true: whoever holds a job computes the same plan.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sordino_protocols.clipping import ClippingRule, FlatClipping, PerLayerClipping
from sordino_protocols.errors import PeerError
from sordino_protocols.local_training import Augmentation, LocalOptimizer, LocalSgd
from sordino_protocols.models import ModelSpec
from sordino_protocols.optimizer import ServerOptimizer, SgdOptimizer, SgldOptimizer
from sordino_protocols.plan import (
    EvaluationPlan,
    LossName,
    RunPlan,
    StatisticsKind,
    StatisticsPlan,
    TrainingPlan,
    UpdateKind,
)
from sordino_protocols.privacy import Guarantee, PrivacyUnit
from sordino_protocols.signing import NAME_PATTERN, Signer, TrustStore, canonical_json

JOB_VERSION: Literal[2] = 2
Purpose = Literal["train", "price"]
PURPOSES: Mapping[str, Purpose] = MappingProxyType({"train": "train", "price": "price"})
_NONCE = re.compile(r"[0-9a-f]{32}")
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class JobSection(BaseModel):
    """`[job]`: what is done with which data set."""

    model_config = _STRICT

    name: Name
    kind: Literal["train"]
    dataset: Name


class PrivacySection(BaseModel):
    """`[privacy]`: what the run may cost one privacy unit at one site, evaluation included.

    Attributes:
        unit: must be what the data set declares: "entity" where it names a unit column.
        epsilon: of the whole run.
        delta: of the whole run.
    """

    model_config = _STRICT

    unit: PrivacyUnit
    epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, le=1e-2)]


class TrainingSection(BaseModel):
    """`[training]`: DP-SGD at the sites.

    Attributes:
        loss: of one record. "binary": one output, labels of two classes. "cross_entropy": an
            output a class. "squared": one output, a number. Losses over several records, such as
            Cox' partial likelihood, have no gradient per record and cannot be trained like this.
        rounds: of the run.
        local_steps: noisy steps a site takes in one round.
        local_learning_rate: of the steps between a round's sums.
        local_optimizer: takes those steps.
        update: release the noisy sums of a round, or what they changed.
        sampling_rate: probability with which a unit enters a step's batch.
        clipping_norm: bound on one unit's contribution to a step.
        clipping: how contributions are brought to that bound.
        records_per_unit: most records of one entity in a step.
        augmentation: random views of images.
    """

    model_config = _STRICT

    loss: LossName = "binary"
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    local_steps: Annotated[int, Field(ge=1, le=1_000)] = 1
    local_learning_rate: Positive = 0.1
    local_optimizer: LocalOptimizer = LocalSgd()
    update: UpdateKind = "sum"
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    clipping_norm: Positive
    clipping: ClippingRule = FlatClipping()
    records_per_unit: Annotated[int, Field(ge=1, le=1_000)] = 1
    augmentation: Augmentation | None = None

    @field_validator("loss", mode="before")
    @classmethod
    def _per_record(cls, loss: object) -> object:
        if loss == "cox":
            raise ValueError(
                "Cox' partial likelihood compares records, so no record has a gradient of its own;"
                " use a binary label such as survival at a fixed time"
            )
        return loss


class EvaluationSection(BaseModel):
    """`[evaluation]`: a noisy histogram of scores on held-out records, one release a site."""

    model_config = _STRICT

    bins: Annotated[int, Field(ge=2, le=100, multiple_of=2)] = 10
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1


class StatisticsSection(BaseModel):
    """`[statistics]`: noisy statistics to scale features by, released before the first round.

    Without it features are scaled by the public bounds of the schema alone, which costs nothing.

    Attributes:
        kind: "moments": to mean 0 and variance 1. "quantiles": by the middle half.
        bins: of [-1, 1], for quantiles.
        share: of the run's privacy, as `evaluation.share`.
    """

    model_config = _STRICT

    kind: StatisticsKind
    bins: Annotated[int, Field(ge=4, le=1000)] = 32
    share: Annotated[float, Field(gt=0, lt=1)] = 0.05


class AuditSection(BaseModel):
    """`[audit]`: canary lanes that the run carries."""

    model_config = _STRICT

    lanes: Annotated[int, Field(ge=0, le=100_000)] = 500


class CohortSection(BaseModel):
    """`[cohort]`: which sites (none named: all), how many must answer, how long the server waits.

    A round is over when all have answered; when `grace_seconds` have passed since the quorum
    answered; and at the latest after `deadline_seconds`.
    """

    model_config = _STRICT

    sites: tuple[Name, ...] = ()
    quorum: Annotated[int, Field(ge=1)] = 1
    deadline_seconds: Annotated[float, Field(gt=0, le=86_400)] = 43_200.0
    grace_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0

    @model_validator(mode="after")
    def _check(self) -> "CohortSection":
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("sites must not repeat a name")
        if self.sites and self.quorum > len(self.sites):
            raise ValueError("quorum must be at most the number of sites")
        return self


class JobFile(BaseModel):
    """A job as a data scientist writes it, in TOML."""

    model_config = _STRICT

    job: JobSection
    privacy: PrivacySection
    model: ModelSpec
    training: TrainingSection
    optimizer: ServerOptimizer
    statistics: StatisticsSection | None = None
    evaluation: EvaluationSection = EvaluationSection()
    audit: AuditSection = AuditSection()
    cohort: CohortSection = CohortSection()

    @property
    def guarantee(self) -> Guarantee:
        """What the job promises one privacy unit at one site."""
        return Guarantee(self.privacy.epsilon, self.privacy.delta)

    def training_plan(self, noise_multiplier: float) -> TrainingPlan:
        """The training plan at a given noise."""
        section = self.training
        return TrainingPlan(
            sampling_rate=section.sampling_rate,
            noise_multiplier=noise_multiplier,
            clipping_norm=section.clipping_norm,
            rounds=section.rounds,
            local_steps=section.local_steps,
            local_learning_rate=section.local_learning_rate,
            lanes=self.audit.lanes,
            clipping=section.clipping,
            update=section.update,
            local_optimizer=section.local_optimizer,
            unit=self.privacy.unit,
            records_per_unit=section.records_per_unit,
            augmentation=section.augmentation,
            loss=section.loss,
        )

    def evaluation_plan(self, noise_multiplier: float) -> EvaluationPlan:
        """The evaluation plan at a given noise."""
        return EvaluationPlan(
            loss=self.training.loss,
            bins=self.evaluation.bins,
            classes=self.model.outputs,
            noise_multiplier=noise_multiplier,
            unit=self.privacy.unit,
        )

    def statistics_plan(self, noise_multiplier: float) -> StatisticsPlan | None:
        """The statistics plan at a given noise; None if the job has no statistics."""
        if self.statistics is None:
            return None
        return StatisticsPlan(
            kind=self.statistics.kind,
            bins=self.statistics.bins,
            noise_multiplier=noise_multiplier,
            unit=self.privacy.unit,
        )

    @model_validator(mode="after")
    def _check(self) -> "JobFile":
        for problem in _contradictions(self):
            raise ValueError(problem)
        return self


def _contradictions(file: JobFile) -> Iterator[str]:
    """What no field alone shows, in the order of the file."""
    training, optimizer, outputs = file.training, file.optimizer, file.model.outputs
    if training.loss == "cross_entropy" and outputs < 2:  # noqa: PLR2004
        yield "training.loss = 'cross_entropy' needs model.outputs of at least 2, one a class"
    if training.loss != "cross_entropy" and outputs != 1:
        yield f"training.loss = '{training.loss}' needs model.outputs = 1"
    if training.records_per_unit > 1 and file.privacy.unit == "record":
        yield "training.records_per_unit above 1 needs privacy.unit = 'entity'"
    if training.update == "delta" and not isinstance(optimizer, SgdOptimizer):
        yield "training.update = 'delta' needs optimizer.kind = 'sgd': a delta is no gradient"
    if training.local_steps > 1 and isinstance(optimizer, SgldOptimizer):
        yield "optimizer.kind = 'sgld' needs training.local_steps = 1: it accounts every step"
    is_fixed = isinstance(training.clipping, FlatClipping | PerLayerClipping)
    if not is_fixed and isinstance(optimizer, SgldOptimizer):
        yield "optimizer.kind = 'sgld' needs training.clipping.kind = 'flat' or 'per_layer'"
    shares = file.evaluation.share + (file.statistics.share if file.statistics else 0.0)
    if shares >= 1:
        yield "evaluation.share and statistics.share together must be below 1"


class Job(BaseModel):
    """A job file with its noise: complete, canonical, what a signature covers."""

    model_config = _STRICT

    version: Literal[2]
    file: JobFile
    training_noise_multiplier: Positive
    evaluation_noise_multiplier: Positive
    statistics_noise_multiplier: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> "Job":
        if (self.statistics_noise_multiplier is None) != (self.file.statistics is None):
            raise ValueError("statistics_noise_multiplier goes with [statistics]")
        return self

    @property
    def plan(self) -> RunPlan:
        """What runs, and what it costs."""
        statistics_noise = self.statistics_noise_multiplier
        return RunPlan(
            training=self.file.training_plan(self.training_noise_multiplier),
            evaluation=self.file.evaluation_plan(self.evaluation_noise_multiplier),
            statistics=self.file.statistics_plan(statistics_noise) if statistics_noise else None,
        )

    def canonical(self) -> bytes:
        """The one spelling of this job; equal jobs have equal bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, in hex: the job's identity everywhere."""
        return hashlib.sha256(self.canonical()).hexdigest()


@dataclass(frozen=True, slots=True)
class SignedJob:
    """A job's canonical bytes with a submitter's signature over them, good for one run.

    The signature also covers what the job may be used for and a nonce, so a server can neither
    train a job that was signed to be priced, nor run one twice.

    Attributes:
        body: the canonical bytes.
        submitter: the name that trust stores know the signer by.
        signature: Ed25519, 64 bytes.
        purpose: "price" allows asking what the job would cost, "train" also running it.
        nonce: 32 hex digits, drawn for this signature alone.
    """

    body: bytes
    submitter: str
    signature: bytes
    purpose: Purpose
    nonce: str

    @property
    def digest(self) -> str:
        """SHA-256 of the body, in hex; equals `Job.digest` of the job inside."""
        return hashlib.sha256(self.body).hexdigest()


def sign_job(job: Job, signer: Signer, *, purpose: Purpose, nonce: str) -> SignedJob:
    """Sign a job as its submitter; `new_nonce` draws a nonce."""
    body = job.canonical()
    signature = signer.sign(_signed_bytes(body, purpose, nonce))
    return SignedJob(body, signer.name, signature, purpose, nonce)


def new_nonce() -> str:
    """32 random hex digits."""
    return secrets.token_hex(16)


def verify_job(signed: SignedJob, trust: TrustStore) -> Job:
    """Check who signed a job, then read it; in that order.

    Whether it was signed for what is asked of it, and for the first time, is the caller's to check.

    Raises:
        AuthenticationError: the submitter is not trusted, or did not sign these bytes.
        PeerError: the bytes are no job, or not in canonical form, or the nonce is none.
    """
    if not _NONCE.fullmatch(signed.nonce):
        raise PeerError("the nonce must be 32 hex digits")
    message = _signed_bytes(signed.body, signed.purpose, signed.nonce)
    trust.verify(signed.submitter, message, signed.signature)
    return read_job(signed.body)


def read_job(body: bytes) -> Job:
    """Read a job's canonical bytes without asking who signed them.

    Raises:
        PeerError: the bytes are no job of a known version, or not in canonical form.
    """
    try:
        job = Job.model_validate_json(body)
        canonical = job.canonical()
    except (ValidationError, ValueError, json.JSONDecodeError):
        raise PeerError("the bytes are no job of a version known here") from None
    if canonical != body:
        raise PeerError("the job is not in canonical form")
    return job


def _signed_bytes(body: bytes, purpose: Purpose, nonce: str) -> bytes:
    # A context string: a signature over a job is no signature over anything else.
    return f"sordino/job/1\n{purpose}\n{nonce}\n".encode("ascii") + body
