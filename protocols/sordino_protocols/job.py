"""A job: the file with its noise, canonical and signed.

A job is data: it names a data set, a model or a generator from the allow-list and the privacy it
may cost. A person writes a `JobFile`; `pricing.resolve` adds the noise that the wanted epsilon
needs and makes it a `Job`: that is what is signed, sent, pinned by its digest, and priced again at
every site from the noise it really asks for. What must stay true: whoever holds a job computes the
same plan.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sordino_protocols.aggregation_rules import MEAN
from sordino_protocols.errors import PeerError
from sordino_protocols.job_file import JobFile
from sordino_protocols.job_sections import JobKind, JobSection, Positive, PrivacySection
from sordino_protocols.plan import RunPlan
from sordino_protocols.signing import Signer, TrustStore, canonical_json

__all__ = [
    "JOB_VERSION",
    "PURPOSES",
    "Job",
    "JobFile",
    "JobKind",
    "JobSection",
    "PrivacySection",
    "Purpose",
    "SignedJob",
    "new_nonce",
    "read_job",
    "sign_job",
    "verify_job",
    "weights_digest",
]

JOB_VERSION: Literal[2] = 2
Purpose = Literal["train", "validate", "synthesize", "count", "mock", "price"]
PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {
        "train": "train",
        "validate": "validate",
        "synthesize": "synthesize",
        "count": "count",
        "mock": "mock",
        "price": "price",
    }
)
_NONCE = re.compile(r"[0-9a-f]{32}")
# Left out of the canonical form where they are absent: jobs from before there were any keep theirs.
_LATER_SECTIONS = ("synthetic", "synthesis", "counting")
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class Job(BaseModel):
    """A job file with its noise: complete, canonical, what a signature covers.

    Attributes:
        version: of the format.
        file: what the submitter wrote.
        training_noise_multiplier: of a job that trains at the sites.
        evaluation_noise_multiplier: of a job with a model.
        statistics_noise_multiplier: of a job with statistics.
        table_noise_multiplier: of a job that synthesizes or counts.
    """

    model_config = _STRICT

    version: Literal[2]
    file: JobFile
    training_noise_multiplier: Positive | None = None
    evaluation_noise_multiplier: Positive | None = None
    statistics_noise_multiplier: Positive | None = None
    table_noise_multiplier: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> "Job":
        if (self.training_noise_multiplier is None) != (self.file.training is None):
            raise ValueError("training_noise_multiplier goes with [training]")
        if (self.evaluation_noise_multiplier is None) != (self.file.model is None):
            raise ValueError("evaluation_noise_multiplier goes with [model]")
        has_table = self.file.synthesis is not None or self.file.counting is not None
        if (self.table_noise_multiplier is None) == has_table:
            raise ValueError("table_noise_multiplier goes with [synthesis] and [counting]")
        if self.file.synthesis is not None:
            self.file.synthesis_plan(1.0)
        if (self.statistics_noise_multiplier is None) != (self.file.statistics is None):
            raise ValueError("statistics_noise_multiplier goes with [statistics]")
        validation = self.file.validation
        if validation is not None and validation.weights_sha256 is None:
            raise ValueError("validation.weights_sha256 says which weights: it must be given")
        return self

    @property
    def plan(self) -> RunPlan:
        """What runs, and what it costs."""
        file, training_noise = self.file, self.training_noise_multiplier
        evaluation_noise = self.evaluation_noise_multiplier
        statistics_noise = self.statistics_noise_multiplier
        table_noise = self.table_noise_multiplier
        return RunPlan(
            training=file.training_plan(training_noise) if training_noise else None,
            evaluation=file.evaluation_plan(evaluation_noise) if evaluation_noise else None,
            statistics=file.statistics_plan(statistics_noise) if statistics_noise else None,
            synthesis=file.synthesis_plan(table_noise) if table_noise else None,
            count=file.count_plan(table_noise) if table_noise else None,
        )

    @property
    def purpose(self) -> Purpose:
        """What a signature must say for the job to be run."""
        return self.file.job.kind

    def canonical(self) -> bytes:
        """The one spelling of this job; equal jobs have equal bytes."""
        raw = self.model_dump(mode="json")
        for section in _LATER_SECTIONS:
            if raw["file"][section] is None:
                del raw["file"][section]
        # So is what every job did before there was a choice.
        if self.file.cohort.aggregation == MEAN:
            del raw["file"]["cohort"]["aggregation"]
        if raw["table_noise_multiplier"] is None:
            del raw["table_noise_multiplier"]
        return canonical_json(raw)

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
