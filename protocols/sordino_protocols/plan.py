"""The frozen plans: what runs and what is paid for are read off the same object.

A plan is computed from a job alone (`job.plan`), so server, site and auditor each compute it and
agree. The event in the ledger is a property of the plan that parametrises the mechanism, so the
accounting cannot drift from what runs. Nothing in a plan depends on a record.
"""

from dataclasses import dataclass

from sordino_protocols.privacy import Composed, Event, Gaussian, PoissonGaussian


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """DP-SGD as one site runs it, round by round.

    A round takes `local_steps` steps. Each step draws a Poisson batch, clips every unit's gradient
    to `clipping_norm` (L2, all parameters and lanes together), sums, and adds Gaussian noise of
    standard deviation `noise_multiplier * clipping_norm` to every coordinate. A round's release is
    the sum of its noisy sums.

    Attributes:
        sampling_rate: probability with which each unit enters a batch.
        noise_multiplier: noise standard deviation over `clipping_norm`.
        clipping_norm: bound on the L2 norm of one unit's contribution to a step.
        rounds: how many rounds the run has.
        local_steps: steps a round.
        local_learning_rate: step length between a round's steps; without effect when
            `local_steps` is 1.
        lanes: number of canary lanes: coordinates after the model's own that no logit reads.
    """

    sampling_rate: float
    noise_multiplier: float
    clipping_norm: float
    rounds: int
    local_steps: int
    local_learning_rate: float
    lanes: int

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on every coordinate of one step's sum."""
        return self.noise_multiplier * self.clipping_norm

    @property
    def round_event(self) -> PoissonGaussian:
        """What one round costs."""
        return PoissonGaussian(self.sampling_rate, self.noise_multiplier, self.local_steps)

    @property
    def event(self) -> PoissonGaussian:
        """What all rounds cost."""
        return PoissonGaussian(
            self.sampling_rate, self.noise_multiplier, self.local_steps * self.rounds
        )


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """A noisy histogram of scores per class on held-out units.

    One unit enters one cell, so the L2 sensitivity is 1.

    Attributes:
        bins: equal-width bins of the score in [0, 1], a class.
        noise_multiplier: standard deviation of the noise on every cell.
    """

    bins: int
    noise_multiplier: float

    @property
    def event(self) -> Gaussian:
        """What the evaluation costs."""
        return Gaussian(self.noise_multiplier)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything one job releases from one site."""

    training: TrainingPlan
    evaluation: EvaluationPlan

    @property
    def event(self) -> Event:
        """What the whole run costs one site's units, held before the first round."""
        return Composed((self.training.event, self.evaluation.event))
