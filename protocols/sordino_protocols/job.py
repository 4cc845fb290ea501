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

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sordino_protocols.clipping import FlatClipping, PerLayerClipping
from sordino_protocols.columns import ColumnName
from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.job_sections import (
    AuditSection,
    CohortSection,
    EvaluationSection,
    Name,
    Positive,
    StatisticsSection,
    TrainingSection,
    ValidationSection,
)
from sordino_protocols.models import ModelSpec, parameter_groups
from sordino_protocols.optimizer import ServerOptimizer, SgdOptimizer, SgldOptimizer
from sordino_protocols.plan import (
    EvaluationPlan,
    LossName,
    RunPlan,
    StatisticsPlan,
    TrainingPlan,
)
from sordino_protocols.privacy import Guarantee, PrivacyUnit
from sordino_protocols.signing import Signer, TrustStore, canonical_json

JOB_VERSION: Literal[2] = 2
JobKind = Literal["train", "validate"]
Purpose = Literal["train", "validate", "price"]
PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {"train": "train", "validate": "validate", "price": "price"}
)
_NONCE = re.compile(r"[0-9a-f]{32}")
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class JobSection(BaseModel):
    """`[job]`: what is done with which data set.

    Attributes:
        name: of the job; whoever approves one compares it with the last of the same name.
        kind: "train" a model, or "validate" one that the job brings.
        dataset: by its name at the sites.
        columns: the feature columns to use, as the schema names them; none named: all.
    """

    model_config = _STRICT

    name: Name
    kind: JobKind
    dataset: Name
    columns: tuple[ColumnName, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> "JobSection":
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns must not repeat a name")
        return self


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


class JobFile(BaseModel):
    """A job as a data scientist writes it, in TOML.

    Attributes:
        training: of a training job, with `optimizer`.
        validation: of a validation.
    """

    model_config = _STRICT

    job: JobSection
    privacy: PrivacySection
    model: ModelSpec
    training: TrainingSection | None = None
    optimizer: ServerOptimizer | None = None
    validation: ValidationSection | None = None
    statistics: StatisticsSection | None = None
    evaluation: EvaluationSection = EvaluationSection()
    audit: AuditSection = AuditSection()
    cohort: CohortSection = CohortSection()

    @property
    def guarantee(self) -> Guarantee:
        """What the job promises one privacy unit at one site."""
        return Guarantee(self.privacy.epsilon, self.privacy.delta)

    @property
    def loss(self) -> LossName:
        """What the model is for: of training, or of what is validated."""
        if self.validation is not None:
            return self.validation.loss
        return self.require_training().loss

    def require_training(self) -> TrainingSection:
        """The section of a training job.

        Raises:
            InputError: the job is a validation.
        """
        if self.training is None:
            raise InputError(f"job {self.job.name!r} is a validation: it trains nothing")
        return self.training

    def require_optimizer(self) -> ServerOptimizer:
        """The server's optimiser in a training job.

        Raises:
            InputError: the job is a validation.
        """
        if self.optimizer is None:
            raise InputError(f"job {self.job.name!r} is a validation: it trains nothing")
        return self.optimizer

    def training_plan(self, noise_multiplier: float) -> TrainingPlan:
        """The training plan at a given noise.

        Raises:
            InputError: the job is a validation.
        """
        section = self.require_training()
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
            lane_groups=parameter_groups(self.model),
        )

    def evaluation_plan(self, noise_multiplier: float) -> EvaluationPlan:
        """The evaluation plan at a given noise."""
        return EvaluationPlan(
            loss=self.loss,
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
    if file.job.kind == "validate":
        yield from _of_validation(file)
    else:
        yield from _of_training(file)


def _of_validation(file: JobFile) -> Iterator[str]:
    if file.validation is None:
        yield "job.kind = 'validate' needs [validation]"
        return
    for section in ("training", "optimizer", "statistics"):
        if getattr(file, section) is not None:
            yield f"job.kind = 'validate' trains nothing: leave [{section}] out"
    yield from _of_outputs("validation.loss", file.validation.loss, file.model.outputs)


def _of_training(file: JobFile) -> Iterator[str]:
    training, optimizer = file.training, file.optimizer
    if training is None:
        yield "job.kind = 'train' needs [training]"
    if optimizer is None:
        yield "job.kind = 'train' needs [optimizer]"
    if training is None or optimizer is None:
        return
    if file.validation is not None:
        yield "job.kind = 'train' brings no model: leave [validation] out"
    yield from _of_outputs("training.loss", training.loss, file.model.outputs)
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


def _of_outputs(key: str, loss: LossName, outputs: int) -> Iterator[str]:
    if loss == "cross_entropy" and outputs < 2:  # noqa: PLR2004
        yield f"{key} = 'cross_entropy' needs model.outputs of at least 2, one a class"
    if loss != "cross_entropy" and outputs != 1:
        yield f"{key} = '{loss}' needs model.outputs = 1"


class Job(BaseModel):
    """A job file with its noise: complete, canonical, what a signature covers.

    Attributes:
        version: of the format.
        file: what the submitter wrote.
        training_noise_multiplier: of a training job.
        evaluation_noise_multiplier: of every job.
        statistics_noise_multiplier: of a job with statistics.
    """

    model_config = _STRICT

    version: Literal[2]
    file: JobFile
    training_noise_multiplier: Positive | None = None
    evaluation_noise_multiplier: Positive
    statistics_noise_multiplier: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> "Job":
        if (self.training_noise_multiplier is None) != (self.file.training is None):
            raise ValueError("training_noise_multiplier goes with [training]")
        if (self.statistics_noise_multiplier is None) != (self.file.statistics is None):
            raise ValueError("statistics_noise_multiplier goes with [statistics]")
        validation = self.file.validation
        if validation is not None and validation.weights_sha256 is None:
            raise ValueError("validation.weights_sha256 says which weights: it must be given")
        return self

    @property
    def plan(self) -> RunPlan:
        """What runs, and what it costs."""
        training_noise = self.training_noise_multiplier
        statistics_noise = self.statistics_noise_multiplier
        return RunPlan(
            training=self.file.training_plan(training_noise) if training_noise else None,
            evaluation=self.file.evaluation_plan(self.evaluation_noise_multiplier),
            statistics=self.file.statistics_plan(statistics_noise) if statistics_noise else None,
        )

    @property
    def purpose(self) -> Purpose:
        """What a signature must say for the job to be run."""
        return self.file.job.kind

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
        purpose: "price" allows asking what the job would cost; the job's own kind also running it.
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


def weights_digest(weights: npt.NDArray[np.float32], scaling: npt.NDArray[np.float32]) -> str:
    """SHA-256 of a model's little-endian float32 numbers, scaling last, in hex.

    Args:
        weights: flat; how many there must be is a matter of the model and the features.
        scaling: as `scaling.Scaling.vector`; empty for none.
    """
    numbers = np.concatenate([weights, scaling]).astype("<f4")
    return hashlib.sha256(numbers.tobytes()).hexdigest()


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
