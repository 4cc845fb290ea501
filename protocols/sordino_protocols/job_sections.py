"""The sections of a job file that say how the work is done; `job` puts them together."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sordino_protocols.clipping import ClippingRule, FlatClipping
from sordino_protocols.local_training import Augmentation, LocalOptimizer, LocalSgd
from sordino_protocols.plan import LossName, StatisticsKind, UpdateKind
from sordino_protocols.signing import NAME_PATTERN

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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
    # Smaller ones have no grid to be rounded to.
    clipping_norm: Annotated[float, Field(ge=1e-9, le=1e6, allow_inf_nan=False)]
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


class ValidationSection(BaseModel):
    """`[validation]`: a model that the job brings, to be evaluated and nothing else.

    Attributes:
        loss: what the model was trained for; decides what the evaluation counts.
        weights_sha256: of what the job brings, as `weights_digest` takes it; no site evaluates
            anything else. The command that submits the job fills it in where the file does not.
    """

    model_config = _STRICT

    loss: LossName = "binary"
    weights_sha256: Sha256 | None = None


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
    """`[audit]`: canary lanes that a training run carries; a validation has no rounds for them."""

    model_config = _STRICT

    lanes: Annotated[int, Field(ge=0, le=100_000)] = 500


class CohortSection(BaseModel):
    """`[cohort]`: which sites (none named: all), how many must answer, how long the server waits.

    A round is over when all have answered; when `grace_seconds` have passed since the quorum
    answered; and at the latest after `deadline_seconds`. A site where a person has yet to approve
    the job is waited for until then.
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
