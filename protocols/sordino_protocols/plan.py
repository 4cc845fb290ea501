"""The frozen plans: what runs and what is paid for are read off the same object.

A plan is computed from a job alone (`job.plan`), so server, site and auditor each compute it and
agree. The event in the ledger is a property of the plan that parametrises the mechanism, so the
accounting cannot drift from what runs. Nothing in a plan depends on a record.
"""

import math
from dataclasses import dataclass
from typing import Literal

from sordino_protocols.clipping import FLAT, AdaptiveClipping, ClippingRule
from sordino_protocols.errors import InputError
from sordino_protocols.local_training import LOCAL_SGD, Augmentation, LocalOptimizer
from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonGaussian,
    PrivacyUnit,
    SelfComposed,
)
from sordino_protocols.synthesis.marginals import Marginal, event_of, with_more_noise
from sordino_protocols.synthesis.shapes import DomainShape
from sordino_protocols.synthesis.specs import GeneratorSpec, MixtureSpec

UpdateKind = Literal["sum", "delta"]
LossName = Literal["binary", "cross_entropy", "squared", "likelihood"]
StatisticsKind = Literal["moments", "quantiles"]
SynthesisMode = Literal["local", "table", "sum"]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """DP-SGD as one site runs it, round by round.

    A round takes `local_steps` steps. Each step draws a Poisson batch, clips every unit's gradient
    to `clipping_norm` (L2, all coordinates together), sums, and adds Gaussian noise of standard
    deviation `noise_multiplier * clipping_norm` to every coordinate. Coordinates are the model's
    parameters, then the threshold's under adaptive clipping, then the lanes: a lane has one in each
    of `lane_groups`, and all lanes of a group stand together. A round's release is the sum of its
    noisy sums; with `update` "delta" the model's part of it is instead what the steps changed, a
    function of the same noisy sums.

    Attributes:
        sampling_rate: probability with which each unit enters a batch.
        noise_multiplier: noise standard deviation over `clipping_norm`.
        clipping_norm: bound on the L2 norm of one unit's contribution to a step.
        rounds: how many rounds the run has.
        local_steps: steps a round.
        local_learning_rate: step length between a round's steps; without effect when
            `local_steps` is 1.
        lanes: number of canary lanes, whose coordinates no output reads.
        clipping: how a unit's gradient is brought to `clipping_norm`.
        update: what of the model is released.
        local_optimizer: takes the steps between a round's sums.
        unit: what enters a batch on its own coin and is clipped as one.
        records_per_unit: most records of one unit in a step; drawn anew in each step.
        augmentation: random views of images; None for none.
        loss: whose gradients are summed.
        lane_groups: coordinates of one lane: in a job's plan, the layers of the model that have
            parameters, so that a canary's gradient has as many layers as a record's.
    """

    sampling_rate: float
    noise_multiplier: float
    clipping_norm: float
    rounds: int
    local_steps: int
    local_learning_rate: float
    lanes: int
    clipping: ClippingRule = FLAT
    update: UpdateKind = "sum"
    local_optimizer: LocalOptimizer = LOCAL_SGD
    unit: PrivacyUnit = "record"
    records_per_unit: int = 1
    augmentation: Augmentation | None = None
    loss: LossName = "binary"
    lane_groups: int = 1

    @property
    def thresholds(self) -> int:
        """Coordinates between the model's and the lanes: 1 under adaptive clipping, else 0."""
        return 1 if isinstance(self.clipping, AdaptiveClipping) else 0

    @property
    def lane_coordinates(self) -> int:
        """Coordinates of all lanes, the last ones: group by group, in each lane by lane."""
        return self.lane_groups * self.lanes

    @property
    def extra_coordinates(self) -> int:
        """Coordinates behind the model's: threshold and lanes."""
        return self.thresholds + self.lane_coordinates

    @property
    def largest_clipping_norm(self) -> float:
        """The largest norm of any round, whatever a server sends as the threshold's weight."""
        if isinstance(self.clipping, AdaptiveClipping):
            return self.clipping.norm(self.clipping_norm, math.inf)
        return self.clipping_norm

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on every coordinate of one step's sum."""
        return self.noise_multiplier * self.clipping_norm

    @property
    def round_event(self) -> PoissonGaussian:
        """What one round costs."""
        return self.event_after(1)

    @property
    def event(self) -> PoissonGaussian:
        """What all rounds cost."""
        return self.event_after(self.rounds)

    def event_after(self, rounds: int) -> PoissonGaussian:
        """What the first `rounds` rounds cost."""
        return PoissonGaussian(
            self.sampling_rate, self.noise_multiplier, self.local_steps * rounds, self.unit
        )


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """A noisy table of counts over held-out units.

    One unit enters one cell, so the L2 sensitivity is 1: under entity units, one record of the
    entity, drawn at random.

    Attributes:
        loss: decides what is counted: with "binary" scores by class, with "cross_entropy" right
            and wrong answers by class, with "squared" errors by size, with "likelihood" records by
            their mean negative log-likelihood.
        bins: equal-width bins, of the score in [0, 1], of the absolute error in [0, 2], or of
            nats in [0, 4].
        classes: outputs of the model.
        noise_multiplier: standard deviation of the noise on every cell.
        unit: whom the guarantee is about.
    """

    loss: LossName
    bins: int
    classes: int
    noise_multiplier: float
    unit: PrivacyUnit = "record"

    @property
    def shape(self) -> tuple[int, int]:
        """Of the table: classes by bins, classes by (wrong, right), or one row of bins."""
        match self.loss:
            case "binary":
                return 2, self.bins
            case "cross_entropy":
                return self.classes, 2
            case "squared" | "likelihood":
                return 1, self.bins

    @property
    def event(self) -> DiscreteGaussian:
        """What the evaluation costs: its counts are whole numbers, and so is their noise."""
        return DiscreteGaussian(self.noise_multiplier, 1, self.unit)


@dataclass(frozen=True, slots=True)
class StatisticsPlan:
    """Noisy statistics of the features, released before the first round, to scale features by.

    "moments" sums each feature and its square; "quantiles" counts each feature's values in bins.
    One unit adds a vector of L2 norm 1 at most, after a public scaling: the noise on every entry is
    `noise_multiplier` times the norm that a unit can reach, which the number of features gives.

    Attributes:
        kind: what is released.
        bins: of [-1, 1], for quantiles.
        noise_multiplier: noise standard deviation over the L2 sensitivity.
        unit: whom the guarantee is about.
    """

    kind: StatisticsKind
    bins: int
    noise_multiplier: float
    unit: PrivacyUnit = "record"

    @property
    def event(self) -> Gaussian:
        """What the statistics cost."""
        return Gaussian(self.noise_multiplier, self.unit)


@dataclass(frozen=True, slots=True)
class SynthesisPlan:
    """One release of one site from which synthetic records are made.

    Mode "local" releases noisy marginals, to which the server fits one generator for all sites.
    Mode "sum" releases them with a share of the noise, under masks that vanish in the sum of all
    sites; the server learns the sum alone, as long as the masks hold. Mode "table" fits and samples
    at the site, and releases rows.

    Attributes:
        generator: how records are made.
        mode: what is released.
        shape: of the table of cells.
        schema_sha256: of the schema that the shape is of.
        noise_multiplier: of the whole release; in mode "sum" of the sum of all sites' releases.
        unit: whom the guarantee is about.
        sites: who takes part in the sum, sorted; empty in other modes, if the job names nobody.
        silent: how many of them may stay silent, and how many may tell the server their noise,
            without the sum losing what it promises.
        rows: how many rows a table has; None: as many as there seem to be units.
    """

    generator: GeneratorSpec
    mode: SynthesisMode
    shape: DomainShape
    schema_sha256: str
    noise_multiplier: float
    unit: PrivacyUnit = "record"
    sites: tuple[str, ...] = ()
    silent: int = 0
    rows: int | None = None

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """What is measured, at the noise of the whole release; nothing but by the mixture."""
        if not isinstance(self.generator, MixtureSpec):
            return ()
        return self.generator.marginals(self.shape, self.noise_multiplier)

    @property
    def released_marginals(self) -> tuple[Marginal, ...]:
        """The marginals at the noise that one site adds: in mode "sum" its share."""
        if self.mode != "sum":
            return self.marginals
        # The noise of all but the silent ones must be enough.
        return with_more_noise(self.marginals, (len(self.sites) - self.silent) ** -0.5)

    @property
    def event(self) -> Event:
        """What a site pays: for its own noise alone, since it trusts nobody else's."""
        if self.mode == "sum":
            return event_of(self.released_marginals, self.unit)
        return self.whole_event

    @property
    def whole_event(self) -> Event:
        """What the release costs; in mode "sum" the sum, as long as masks and enough noise hold.

        The sum of discrete Gaussians is no discrete Gaussian, but as good as one at a sigma above 2
        (Kairouz, Liu & Steinke 2021, thm. 1), which a site's share must have.
        """
        return self.generator.event(self.shape, self.noise_multiplier, self.unit)


@dataclass(frozen=True, slots=True)
class ItemsWanted:
    """What items of a set column a record must have: one of `any`, all of `all`, none of `none`."""

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    none: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CountQuery:
    """One question: how many units there are for which all conditions hold.

    Attributes:
        name: what the answer is called.
        where: pairs of a column and its condition, sorted by column; `counting` reads them.
    """

    name: str
    where: tuple[tuple[str, str | ItemsWanted], ...]


@dataclass(frozen=True, slots=True)
class CountPlan:
    """Noisy answers to counting queries; one unit changes every answer by 1 at most.

    Attributes:
        queries: what is counted.
        noise_multiplier: standard deviation of the noise on every answer.
        unit: whom the guarantee is about.
    """

    queries: tuple[CountQuery, ...]
    noise_multiplier: float
    unit: PrivacyUnit = "record"

    @property
    def event(self) -> Event:
        """What the answers cost together."""
        answer = DiscreteGaussian(self.noise_multiplier, 1, self.unit)
        return SelfComposed(answer, len(self.queries))


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything one job releases from one site.

    A run trains and evaluates, or evaluates, or releases one table: a synthesis or counts; or
    nothing at all, which is a mock.

    Attributes:
        training: None where no site trains.
        evaluation: of the final weights, or of those that the job brings; None without a model.
        statistics: None where features are scaled by their declared bounds.
        synthesis: of a job that synthesizes.
        count: of a job that counts.
    """

    training: TrainingPlan | None = None
    evaluation: EvaluationPlan | None = None
    statistics: StatisticsPlan | None = None
    synthesis: SynthesisPlan | None = None
    count: CountPlan | None = None

    @property
    def event(self) -> Event:
        """What the whole run costs one site's units, held before the first round.

        Raises:
            InputError: the run releases nothing.
        """
        parts = (self.statistics, self.training, self.evaluation, self.synthesis, self.count)
        events = tuple(part.event for part in parts if part is not None)
        if not events:
            raise InputError("the job releases nothing: it has no price")
        return Composed(events)

    @property
    def tabulation(self) -> SynthesisPlan | CountPlan | None:
        """What the site's one table is; None for a job of a model, and for a mock."""
        return self.synthesis or self.count

    @property
    def unit(self) -> PrivacyUnit:
        """Whom all guarantees of the run are about.

        Raises:
            InputError: the run releases nothing.
        """
        for part in (self.evaluation, self.synthesis, self.count):
            if part is not None:
                return part.unit
        raise InputError("the job releases nothing: it is about nobody")

    @property
    def rounds(self) -> int:
        """How many rounds there are; 0 where no site trains."""
        return 0 if self.training is None else self.training.rounds

    @property
    def lanes(self) -> int:
        """How many canary lanes there are; 0 where no site trains."""
        return 0 if self.training is None else self.training.lanes

    @property
    def extra_coordinates(self) -> int:
        """Coordinates behind the model's in everything the server sends."""
        return 0 if self.training is None else self.training.extra_coordinates

    def require_training(self) -> TrainingPlan:
        """The training of a job that trains.

        Raises:
            InputError: no site trains.
        """
        if self.training is None:
            raise InputError("the job trains nothing at the sites")
        return self.training

    def require_evaluation(self) -> EvaluationPlan:
        """The evaluation of a job that has a model.

        Raises:
            InputError: the job has none.
        """
        if self.evaluation is None:
            raise InputError("the job evaluates nothing: it has no model")
        return self.evaluation

    def require_synthesis(self) -> SynthesisPlan:
        """The plan of a job that synthesizes.

        Raises:
            InputError: it is another job.
        """
        if self.synthesis is None:
            raise InputError("the job synthesizes nothing")
        return self.synthesis
