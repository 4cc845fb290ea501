"""The job file as a data scientist writes it, strictly read: sections that fit together.

Which sections a job has follows from its kind; what they say together, `_contradictions` checks.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, model_validator

from sordino_protocols.aggregation_rules import MeanAggregation
from sordino_protocols.clipping import FlatClipping, PerLayerClipping
from sordino_protocols.errors import InputError
from sordino_protocols.job_sections import (
    AuditSection,
    CohortSection,
    CountingSection,
    EvaluationSection,
    ItemsCondition,
    JobKind,
    JobSection,
    PrivacySection,
    QuerySection,
    StatisticsSection,
    SynthesisSection,
    SyntheticSection,
    TrainingSection,
    ValidationSection,
)
from sordino_protocols.models import ModelSpec, parameter_groups
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.optimizer import ServerOptimizer, SgdOptimizer, SgldOptimizer
from sordino_protocols.plan import (
    CountPlan,
    CountQuery,
    EvaluationPlan,
    ItemsWanted,
    LossName,
    StatisticsPlan,
    SynthesisPlan,
    TrainingPlan,
)
from sordino_protocols.privacy import Guarantee

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class JobFile(BaseModel):
    """A job as a data scientist writes it, in TOML.

    Attributes:
        privacy: of every job but a mock.
        model: of a job that trains or validates one.
        training: of a job that trains at the sites, with `optimizer`.
        validation: of a validation.
        synthetic: of a job that trains on synthetic records.
        synthesis: of a job that synthesizes records.
        counting: of a job that counts.
    """

    model_config = _STRICT

    job: JobSection
    privacy: PrivacySection | None = None
    model: ModelSpec | None = None
    training: TrainingSection | None = None
    optimizer: ServerOptimizer | None = None
    validation: ValidationSection | None = None
    synthetic: SyntheticSection | None = None
    synthesis: SynthesisSection | None = None
    counting: CountingSection | None = None
    statistics: StatisticsSection | None = None
    evaluation: EvaluationSection = EvaluationSection()
    audit: AuditSection = AuditSection()
    cohort: CohortSection = CohortSection()

    @property
    def guarantee(self) -> Guarantee:
        """What the job promises one privacy unit at one site.

        Raises:
            InputError: the job is a mock, which costs nothing.
        """
        privacy = self.require_privacy()
        return Guarantee(privacy.epsilon, privacy.delta)

    @property
    def loss(self) -> LossName:
        """What the model is for.

        Raises:
            InputError: the job has no model.
        """
        if self.validation is not None:
            return self.validation.loss
        return self.synthetic.loss if self.synthetic else self.require_training().loss

    def require_privacy(self) -> PrivacySection:
        """What the job may cost.

        Raises:
            InputError: the job is a mock.
        """
        if self.privacy is None:
            raise self._lacks("costs nothing")
        return self.privacy

    def require_model(self) -> ModelSpec:
        """The model of a job that has one.

        Raises:
            InputError: it is of another kind.
        """
        if self.model is None:
            raise self._lacks("has no model")
        return self.model

    def require_training(self) -> TrainingSection:
        """The section of a job that trains at the sites.

        Raises:
            InputError: it is of another kind.
        """
        if self.training is None:
            raise self._lacks("trains nothing at the sites")
        return self.training

    def require_optimizer(self) -> ServerOptimizer:
        """The server's optimiser in a job that trains at the sites.

        Raises:
            InputError: it is of another kind.
        """
        if self.optimizer is None:
            raise self._lacks("trains nothing at the sites")
        return self.optimizer

    def require_synthesis(self) -> SynthesisSection:
        """The section of a job that synthesizes.

        Raises:
            InputError: it is of another kind.
        """
        if self.synthesis is None:
            raise self._lacks("synthesizes nothing")
        return self.synthesis

    def _lacks(self, what: str) -> InputError:
        return InputError(f"job {self.job.name!r} is a {self.job.kind} job: it {what}")

    def training_plan(self, noise_multiplier: float) -> TrainingPlan:
        """The training plan at a given noise.

        Raises:
            InputError: the job trains nothing at the sites.
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
            unit=self.require_privacy().unit,
            records_per_unit=section.records_per_unit,
            augmentation=section.augmentation,
            loss=section.loss,
            lane_groups=parameter_groups(self.require_model()),
        )

    def evaluation_plan(self, noise_multiplier: float) -> EvaluationPlan:
        """The evaluation plan at a given noise."""
        return EvaluationPlan(
            loss=self.loss,
            bins=self.evaluation.bins,
            classes=self.require_model().outputs,
            noise_multiplier=noise_multiplier,
            unit=self.require_privacy().unit,
        )

    def statistics_plan(self, noise_multiplier: float) -> StatisticsPlan | None:
        """The statistics plan at a given noise; None if the job has no statistics."""
        if self.statistics is None:
            return None
        return StatisticsPlan(
            kind=self.statistics.kind,
            bins=self.statistics.bins,
            noise_multiplier=noise_multiplier,
            unit=self.require_privacy().unit,
        )

    def synthesis_plan(self, noise_multiplier: float) -> SynthesisPlan | None:
        """The synthesis plan at a given noise; None if the job synthesizes nothing.

        Raises:
            InputError: the job does not say yet what shape its data set has.
        """
        if self.synthesis is None:
            return None
        section = self.synthesis
        if section.shape is None or section.schema_sha256 is None:
            raise InputError(
                "synthesis.shape and synthesis.schema_sha256 are missing: they say what the schema"
                " of the data set is; `sordino synth submit` fills them in"
            )
        return SynthesisPlan(
            generator=section.generator,
            mode=section.mode,
            shape=section.shape,
            schema_sha256=section.schema_sha256,
            noise_multiplier=noise_multiplier,
            unit=self.require_privacy().unit,
            sites=tuple(sorted(self.cohort.sites)),
            silent=section.silent,
            rows=section.rows,
        )

    def count_plan(self, noise_multiplier: float) -> CountPlan | None:
        """The plan of the counting queries at a given noise; None if the job counts nothing."""
        if self.counting is None:
            return None
        return CountPlan(
            queries=tuple(map(_query, self.counting.queries)),
            noise_multiplier=noise_multiplier,
            unit=self.require_privacy().unit,
        )

    @model_validator(mode="after")
    def _check(self) -> "JobFile":
        for problem in _contradictions(self):
            raise ValueError(problem)
        return self


def _query(section: QuerySection) -> CountQuery:
    return CountQuery(
        section.name,
        tuple((column, _wanted(section.where[column])) for column in sorted(section.where)),
    )


def _wanted(condition: str | ItemsCondition) -> str | ItemsWanted:
    match condition:
        case ItemsCondition(any=some, all=every, none=no):
            return ItemsWanted(some, every, no)
        case text:
            return text


# Which sections a job of each kind must have, and may have beside [job] and [cohort].
_MUST: Mapping[JobKind, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("privacy", "model"),
        "validate": ("privacy", "model", "validation"),
        "synthesize": ("privacy", "synthesis"),
        "count": ("privacy", "counting"),
        "mock": (),
    }
)
_MAY: Mapping[JobKind, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("training", "optimizer", "statistics", "synthetic"),
        "validate": (),
        "synthesize": (),
        "count": (),
        "mock": (),
    }
)
_SECTIONS = (
    "privacy",
    "model",
    "training",
    "optimizer",
    "validation",
    "synthetic",
    "synthesis",
    "counting",
    "statistics",
)


def _contradictions(file: JobFile) -> Iterator[str]:
    """What no field alone shows, in the order of the file."""
    kind = file.job.kind
    for section in _SECTIONS:
        is_there = getattr(file, section) is not None
        if section in _MUST[kind] and not is_there:
            yield f"job.kind = '{kind}' needs [{section}]"
        if section not in (*_MUST[kind], *_MAY[kind]) and is_there:
            yield f"job.kind = '{kind}' has no use for [{section}]: leave it out"
    if file.training is None and not isinstance(file.cohort.aggregation, MeanAggregation):
        yield "cohort.aggregation is about the rounds of [training]: leave it out"
    match kind:
        case "train" if file.synthetic is not None:
            yield from _of_synthetic(file, file.synthetic)
        case "train":
            yield from _of_training(file)
        case "validate" if file.validation is not None:
            yield from _of_loss(file, "validation.loss", file.validation.loss)
        case "synthesize" if file.synthesis is not None:
            yield from _of_synthesis(file, file.synthesis)
        case _:
            pass


def _of_synthetic(file: JobFile, synthetic: SyntheticSection) -> Iterator[str]:
    for section in ("training", "optimizer", "statistics"):
        if getattr(file, section) is not None:
            yield f"[synthetic] trains at the server, without rounds: leave [{section}] out"
    yield from _of_loss(file, "synthetic.loss", synthetic.loss)


def _of_synthesis(file: JobFile, synthesis: SynthesisSection) -> Iterator[str]:
    if file.job.columns:
        yield "job.kind = 'synthesize' takes all columns: leave job.columns out"
    if synthesis.mode == "sum":
        sites = len(file.cohort.sites)
        if sites - synthesis.silent < 2:  # noqa: PLR2004
            yield (
                "synthesis.mode = 'sum' needs cohort.sites, at least two more than"
                " synthesis.silent: a sum of one site hides nothing"
            )
        if file.cohort.quorum < sites - synthesis.silent:
            yield "cohort.quorum must be at least the number of sites less synthesis.silent"


def _of_training(file: JobFile) -> Iterator[str]:
    training, optimizer = file.training, file.optimizer
    if training is None:
        yield "job.kind = 'train' needs [training], or [synthetic]"
    if optimizer is None:
        yield "job.kind = 'train' needs [optimizer]"
    if training is None or optimizer is None:
        return
    yield from _of_loss(file, "training.loss", training.loss)
    unit = file.privacy and file.privacy.unit
    if training.records_per_unit > 1 and unit == "record":
        yield "training.records_per_unit above 1 needs privacy.unit = 'entity'"
    if training.update == "delta" and not isinstance(optimizer, SgdOptimizer):
        yield "training.update = 'delta' needs optimizer.kind = 'sgd': a delta is no gradient"
    if training.local_steps > 1 and isinstance(optimizer, SgldOptimizer):
        yield "optimizer.kind = 'sgld' needs training.local_steps = 1: it accounts every step"
    is_fixed = isinstance(training.clipping, FlatClipping | PerLayerClipping)
    if not is_fixed and isinstance(optimizer, SgldOptimizer):
        yield "optimizer.kind = 'sgld' needs training.clipping.kind = 'flat' or 'per_layer'"
    rule = file.cohort.aggregation
    if not isinstance(rule, MeanAggregation) and not isinstance(optimizer, SgdOptimizer):
        yield (
            f"cohort.aggregation = '{rule.kind}' needs optimizer.kind = 'sgd': the others count on"
            " the noise of a mean"
        )
    shares = file.evaluation.share + (file.statistics.share if file.statistics else 0.0)
    if shares >= 1:
        yield "evaluation.share and statistics.share together must be below 1"


def _of_loss(file: JobFile, key: str, loss: LossName) -> Iterator[str]:
    match file.model:
        case None:
            return
        case NadeModelSpec():
            yield from _of_nade(file, key, loss)
        case _ if loss == "likelihood":
            yield f"{key} = 'likelihood' needs model.kind = 'nade'"
        case model:
            yield from _of_outputs(key, loss, model.outputs)


def _of_nade(file: JobFile, key: str, loss: LossName) -> Iterator[str]:
    if loss != "likelihood":
        yield f"model.kind = 'nade' needs {key} = 'likelihood'"
    if file.synthetic is not None:
        yield "model.kind = 'nade' learns from records, and not from synthetic ones: use [training]"
    if file.statistics is not None:
        yield "model.kind = 'nade' reads cells, which nothing scales: leave [statistics] out"
    if file.training is not None and file.training.augmentation is not None:
        yield "model.kind = 'nade' reads cells, no images: leave training.augmentation out"


def _of_outputs(key: str, loss: LossName, outputs: int) -> Iterator[str]:
    if loss == "cross_entropy" and outputs < 2:  # noqa: PLR2004
        yield f"{key} = 'cross_entropy' needs model.outputs of at least 2, one a class"
    if loss != "cross_entropy" and outputs != 1:
        yield f"{key} = '{loss}' needs model.outputs = 1"
