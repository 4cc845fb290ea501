"""The sections of a job file that say how the work is done; `job` puts them together."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sordino_protocols.aggregation_rules import MEAN, AggregationRule
from sordino_protocols.clipping import ClippingRule, FlatClipping
from sordino_protocols.local_training import Augmentation, LocalOptimizer, LocalSgd
from sordino_protocols.plan import LossName, StatisticsKind, SynthesisMode, UpdateKind
from sordino_protocols.privacy import PrivacyUnit
from sordino_protocols.signing import NAME_PATTERN
from sordino_protocols.synthesis.shapes import DomainShape
from sordino_protocols.synthesis.specs import GeneratorSpec, MixtureSpec
from sordino_protocols.words import ColumnName

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

JobKind = Literal["train", "validate", "synthesize", "count", "mock"]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class JobSection(BaseModel):
    """`[job]`: what is done with which data set.

    Attributes:
        name: of the job; whoever approves one compares it with the last of the same name.
        kind: "train" a model, "validate" one that the job brings, "synthesize" records, "count"
            them, or "mock" them: make records up from the public schema alone, which costs nothing.
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


class TrainingSection(BaseModel):
    """`[training]`: DP-SGD at the sites.

    Attributes:
        loss: of one record. "binary": one output, labels of two classes. "cross_entropy": an
            output a class. "squared": one output, a number. "likelihood": of a model that generates
            records. Losses over several records, such as Cox' partial likelihood, have no gradient
            per record and cannot be trained like this.
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


class SyntheticSection(BaseModel):
    """`[synthetic]`: train on synthetic records of an earlier run, at the server, without rounds.

    The server trains on the pooled synthetic tables of all sites, which costs nothing; the whole
    privacy of the job goes to the evaluation on the sites' held-out records.

    Attributes:
        run: a finished run of the same submitter that synthesized the same data set.
        loss: of one record.
        epochs: passes over the synthetic records.
        batch_size: records a step.
        learning_rate: of Adam.
    """

    model_config = _STRICT

    run: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    loss: LossName = "binary"
    epochs: Annotated[int, Field(ge=1, le=1_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 256
    learning_rate: Positive = 0.01


class SynthesisSection(BaseModel):
    """`[synthesis]`: one release a site from which synthetic records are made.

    Attributes:
        mode: "local": noisy marginals of each site, and one generator for all of them. "sum": the
            sites' marginals under masks, so that the server learns their sum alone; the job must
            name its sites. "table": each site makes rows itself.
        silent: in mode "sum", how many sites may stay silent.
        rows: in mode "table", how many rows a site makes; None: as many as there seem to be units.
        generator: how records are made.
        schema_sha256: of the public schema, as `Schema.synthesis_digest` has it.
        shape: of the schema's cells. The command that submits the job fills both in where the file
            does not.
    """

    model_config = _STRICT

    mode: SynthesisMode = "local"
    silent: Annotated[int, Field(ge=0, le=1_000)] = 0
    rows: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    generator: GeneratorSpec = MixtureSpec()
    schema_sha256: Sha256 | None = None
    shape: DomainShape | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode != "table" and not isinstance(self.generator, MixtureSpec):
            raise ValueError(f"generator {self.generator.kind!r} needs mode = 'table'")
        if self.mode != "sum" and self.silent:
            raise ValueError("silent is for mode = 'sum'")
        if self.mode != "table" and self.rows is not None:
            raise ValueError("rows is for mode = 'table'; any number can be sampled otherwise")
        return self


class ItemsCondition(BaseModel):
    """What items of a set column a record must have.

    Attributes:
        any: at least one of these.
        all: every one of these.
        none: not one of these.
    """

    model_config = _STRICT

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    none: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.any or self.all or self.none):
            raise ValueError("a condition on a set names items in any, all or none")
        return self


class QuerySection(BaseModel):
    """One of `[[counting.queries]]`: how many units there are for which all conditions hold.

    Attributes:
        name: what the answer is called.
        where: by column. Of a number: an operator and a bound, such as ">= 30", or a range such as
            "30..65", of whole numbers with both ends, of others without the last. Of a category:
            the word. Of a set: `ItemsCondition`.
    """

    model_config = _STRICT

    name: Name
    where: Annotated[Mapping[ColumnName, str | ItemsCondition], Field(min_length=1, max_length=100)]


class CountingSection(BaseModel):
    """`[counting]`: counting queries, answered directly from the records, with noise."""

    model_config = _STRICT

    queries: Annotated[tuple[QuerySection, ...], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({query.name for query in self.queries}) < len(self.queries):
            raise ValueError("queries must not repeat a name")
        return self


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

    `aggregation` says how the server makes one update of those of a round; it costs no privacy.
    """

    model_config = _STRICT

    sites: tuple[Name, ...] = ()
    quorum: Annotated[int, Field(ge=1)] = 1
    deadline_seconds: Annotated[float, Field(gt=0, le=86_400)] = 43_200.0
    grace_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    aggregation: AggregationRule = MEAN

    @model_validator(mode="after")
    def _check(self) -> "CohortSection":
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("sites must not repeat a name")
        if self.sites and self.quorum > len(self.sites):
            raise ValueError("quorum must be at most the number of sites")
        if self.quorum < self.aggregation.least_sites:
            raise ValueError(
                f"aggregation = '{self.aggregation.kind}' needs a quorum of at least"
                f" {self.aggregation.least_sites}: fewer answers cannot outvote a bad one"
            )
        return self
