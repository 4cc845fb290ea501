"""What the server can see of one canary under a plan: scores, their distribution, the ceiling.

In a round, the server sees of each lane, in units of the clipping norm,
`Binomial(local_steps, sampling_rate) * inserted + Normal(0, local_steps * noise_multiplier**2)`.
That is a Gaussian mechanism with a mixture of sensitivities, and everything here follows from it.
With one local step, or without subsampling, this view shows all that the claim allows; with
several it shows less, so an audit is judged against the view's ceiling, not the claim.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.trade_off import TradeOff, gaussian_curve, profile_curve
from sordino_protocols.accounting import has_tight_epsilon
from sordino_protocols.loss_distributions import loss_distribution
from sordino_protocols.plan import TrainingPlan

Floats = NDArray[np.float64]

# Coarse grids are safe: the library rounds so that the claim can only become weaker.
_COARSEST_LOSS = 0.01
_FINEST_LOSS = 0.002
_CURVE_POINTS = 400
_SCORE_CELLS = 2**15
_READING_CELLS = 4096
_TAIL = 9.0
_SCORE_TAIL = 12.0
_SMALLEST_RATE = 1e-11


@dataclass(frozen=True, slots=True)
class ServerView:
    """What a plan lets the server learn of one privacy unit.

    Attributes:
        curve: the trade-off curve of all rounds together; never above the true one.
        ceiling: the epsilon of all rounds together at the requested delta; never below.
    """

    curve: TradeOff
    ceiling: float


@dataclass(frozen=True, slots=True)
class OperatingCurve:
    """Error rates of guessing "inserted" when the score reaches a threshold.

    Attributes:
        thresholds: rising, shape (cells,).
        false_positive_rates: falling, same shape.
        false_negative_rates: rising, same shape.
    """

    thresholds: Floats
    false_positive_rates: Floats
    false_negative_rates: Floats

    def rates(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """False positive and false negative rates at the given thresholds."""
        return (
            np.interp(thresholds, self.thresholds, self.false_positive_rates),
            np.interp(thresholds, self.thresholds, self.false_negative_rates),
        )

    def trade_off(self, false_positive_rates: Floats) -> Floats:
        """The false negative rate at given false positive rates."""
        return np.interp(
            false_positive_rates, self.false_positive_rates[::-1], self.false_negative_rates[::-1]
        )


def server_view(plan: TrainingPlan, *, delta: float) -> ServerView:
    """The curve and the ceiling of a plan's training mechanism, seen round by round.

    Without subsampling both are exact (Dong, Roth & Su 2022, cor. 3.3); else by the privacy loss
    distribution of the Gaussian mixture (Doroshenko et al. 2022), rounded pessimistically.
    """
    if plan.sampling_rate == 1:
        mu = math.sqrt(plan.rounds * plan.local_steps) / plan.noise_multiplier
        return ServerView(gaussian_curve(mu), gaussian.epsilon_from_mu(mu, delta))
    loss = _loss(plan)
    ceiling = float(loss.get_epsilon_for_delta(delta))
    highest = float(loss.get_epsilon_for_delta(1e-9))
    epsilons = np.linspace(0, highest if math.isfinite(highest) else 50.0, _CURVE_POINTS)
    deltas = np.asarray(loss.get_delta_for_epsilon(epsilons.tolist()), dtype=np.float64)
    return ServerView(profile_curve(epsilons, deltas), ceiling)


def score(readings: Floats, plan: TrainingPlan) -> Floats:
    """The log-likelihood ratio of "inserted" over "held out", summed over rounds.

    No test is more powerful when the plan is what ran (Neyman & Pearson 1933).

    Args:
        readings: in units of the clipping norm, shape (rounds, lanes).
        plan: the plan that is claimed.

    Returns:
        shape (lanes,); higher means more likely inserted.
    """
    ratios: Floats = _log_likelihood_ratio(readings, plan).sum(axis=0)
    return ratios


def operating_curve(plan: TrainingPlan, *, noise_ratio: float = 1.0) -> OperatingCurve:
    """Error rates of `score` when the noise is `noise_ratio` times what the plan claims.

    Computed, not simulated: the distribution of one round's ratio is put on a grid and convolved
    with itself by FFT. Good to about 1e-10 in probability; used to choose thresholds and to state
    power, never to reject a claim.
    """
    edges = _reading_edges(plan, noise_ratio)
    ratios = _log_likelihood_ratio((edges[1:] + edges[:-1]) / 2, plan)
    masses = [np.diff(each) for each in _reading_cdfs(edges, plan, noise_ratio)]
    start, step = _score_grid(ratios, masses, plan.rounds)
    held_out, inserted = (_compose(ratios, mass, start, step, plan.rounds) for mass in masses)
    return OperatingCurve(
        thresholds=start + step * (np.arange(_SCORE_CELLS, dtype=np.float64) - 0.5),
        false_positive_rates=np.clip(np.cumsum(held_out[::-1])[::-1], 0, 1),
        false_negative_rates=np.clip(np.cumsum(inserted) - inserted, 0, 1),
    )


def shown_epsilon(plan: TrainingPlan, *, noise_ratio: float, delta: float) -> float:
    """The epsilon that this view shows when the noise is `noise_ratio` times the plan's.

    The best event "score above a threshold" of the most powerful test: never above the true
    epsilon (beyond 1e-3 relative, the grid's error), so that it can serve in a lower bound.
    """
    actual = replace(plan, noise_multiplier=plan.noise_multiplier * noise_ratio)
    if plan.sampling_rate == 1:
        mu = math.sqrt(plan.rounds * plan.local_steps) / actual.noise_multiplier
        return gaussian.epsilon_from_mu(mu, delta)
    curve = operating_curve(actual)
    above = 1 - curve.false_negative_rates - delta
    usable = above > 0
    # Below the floor, a rate is rounding: a larger one keeps the result a lower bound.
    below = np.maximum(curve.false_positive_rates[usable], _SMALLEST_RATE)
    ratios = np.log(above[usable] / below)
    return max(0.0, float(ratios.max(initial=0.0)))


def _loss(plan: TrainingPlan) -> PrivacyLossDistribution:
    if plan.local_steps == 1 and has_tight_epsilon(plan.event):
        # As the claim was priced: finer than the mixture's, and shared with the accountant.
        return loss_distribution(plan.event)
    hits, weights = _hits(plan)
    loss = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        _noise_std(plan),
        hits.tolist(),
        weights.tolist(),
        value_discretization_interval=float(
            np.clip(0.1 / math.sqrt(plan.rounds), _FINEST_LOSS, _COARSEST_LOSS)
        ),
    )
    return loss.self_compose(plan.rounds)


def _noise_std(plan: TrainingPlan) -> float:
    return math.sqrt(plan.local_steps) * plan.noise_multiplier


def _hits(plan: TrainingPlan) -> tuple[NDArray[np.int64], Floats]:
    """How often a canary can enter a round's batches, and how likely each count is."""
    counts = np.arange(plan.local_steps + 1)
    weights = np.asarray(
        stats.binom.pmf(counts, plan.local_steps, plan.sampling_rate), dtype=np.float64
    )
    return counts[weights > 0], weights[weights > 0]


def _log_likelihood_ratio(readings: Floats, plan: TrainingPlan) -> Floats:
    variance = plan.local_steps * plan.noise_multiplier**2
    total = np.full(readings.shape, -np.inf)
    for count, weight in zip(*_hits(plan), strict=True):
        shift = (count * readings - count**2 / 2) / variance
        np.logaddexp(total, math.log(weight) + shift, out=total)
    return total


def _reading_edges(plan: TrainingPlan, noise_ratio: float) -> Floats:
    spread = _TAIL * _noise_std(plan) * noise_ratio
    return np.linspace(-spread, plan.local_steps + spread, _READING_CELLS + 1)


def _reading_cdfs(edges: Floats, plan: TrainingPlan, noise_ratio: float) -> tuple[Floats, Floats]:
    std = _noise_std(plan) * noise_ratio
    hits, weights = _hits(plan)
    inserted = sum(
        (w * ndtr((edges - k) / std) for k, w in zip(hits, weights, strict=True)),
        start=np.zeros_like(edges),
    )
    return np.asarray(ndtr(edges / std), dtype=np.float64), inserted


def _score_grid(ratios: Floats, masses: list[Floats], rounds: int) -> tuple[float, float]:
    means = [float(mass @ ratios) for mass in masses]
    stds = [
        math.sqrt(max(float(mass @ (ratios - mean) ** 2), 0.0))
        for mass, mean in zip(masses, means, strict=True)
    ]
    margin = _SCORE_TAIL * math.sqrt(rounds) * max(stds) + float(np.ptp(ratios))
    start, stop = rounds * min(means) - margin, rounds * max(means) + margin
    return start, (stop - start) / _SCORE_CELLS


def _compose(ratios: Floats, mass: Floats, start: float, step: float, rounds: int) -> Floats:
    """The distribution of the sum over rounds, on cells `start + step * index`."""
    # Each value is split between its two neighbours, which keeps the mean exact. Indices are
    # circular, as the FFT is; the last roll moves the sum to where the grid starts.
    position = ratios / step
    below = np.floor(position).astype(np.int64)
    share = position - below
    single = np.bincount(below % _SCORE_CELLS, mass * (1 - share), _SCORE_CELLS)
    single += np.bincount((below + 1) % _SCORE_CELLS, mass * share, _SCORE_CELLS)
    composed = np.fft.irfft(np.fft.rfft(single) ** rounds, _SCORE_CELLS)
    return np.roll(np.maximum(composed, 0.0), -round(start / step))
