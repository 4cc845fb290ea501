"""The robust membership attack (Zarifzadeh et al. 2024): is a record fitted better than others?

A target is compared with records of the population, each against what reference models say of it.
One or two references are enough, where LiRA cannot fit a Gaussian.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_LOG = -700.0


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Records like the targets, and what the models say of them.

    Nobody need know whose they are: the targets themselves may be among them. A score has as many
    values as there are records, and targets that dominate them all are tied: take thousands.

    Attributes:
        observed: [..., records], log-probabilities of the true class under the model under attack.
        references: [models, records], the same under the reference models.
    """

    observed: Floats
    references: Floats


def online(
    observed: Floats,
    references: Floats,
    membership: NDArray[np.bool_],
    population: Population,
    *,
    gamma: float,
) -> Floats:
    """Share of the population that a target dominates (Zarifzadeh, Liu & Shokri 2024, sec. 3).

    With p(x) the probability of the true class under the model under attack, and Pr(x) its mean
    over reference models, half of them trained on x, the score of x is the share of records z with
    (p(x) / Pr(x)) / (p(z) / Pr(z)) >= gamma.

    Args:
        observed: [..., targets], log-probabilities of the true class.
        references: [models, targets], the same under the reference models.
        membership: bool [models, targets], whether a reference was trained on a target.
        population: records to compare with.
        gamma: how much better a target must be fitted; >= 1.

    Returns:
        [..., targets], in [0, 1].

    Raises:
        ValueError: a target has no reference with it or none without it, or gamma is below 1.
    """
    inside = _log_mean(references, membership)
    outside = _log_mean(references, ~membership)
    usual = np.logaddexp(inside, outside) - np.log(2)
    return _dominated(observed - usual, population, gamma)


def offline(
    observed: Floats,
    references: Floats,
    membership: NDArray[np.bool_],
    population: Population,
    *,
    gamma: float,
    slope: float,
) -> Floats:
    """As `online`, from reference models that were not trained on the target.

    What models with it would say is extrapolated: Pr(x) = ((1 + a) Pr_out(x) + 1 - a) / 2, with `a`
    the slope of a line through (1, 1) (Zarifzadeh, Liu & Shokri 2024, app. B.2.2).

    Args:
        observed: [..., targets], log-probabilities of the true class.
        references: [models, targets], the same under the reference models.
        membership: bool [models, targets]; references that were trained on a target are ignored.
        population: records to compare with.
        gamma: how much better a target must be fitted; >= 1.
        slope: `a` in [0, 1]: 1 takes models without x as they are; less, the more they overfit.

    Returns:
        [..., targets], in [0, 1].

    Raises:
        ValueError: a target has no reference without it, or gamma or slope are out of range.
    """
    if not 0 <= slope <= 1:
        raise ValueError(f"slope is {slope}; expected a number in [0, 1]")
    outside = np.exp(_log_mean(references, ~membership))
    usual = np.log(((1 + slope) * outside + (1 - slope)) / 2)
    return _dominated(observed - usual, population, gamma)


def _dominated(log_ratios: Floats, population: Population, gamma: float) -> Floats:
    """The share of the population at most `log_ratios` - log gamma."""
    if not gamma >= 1:
        raise ValueError(f"gamma is {gamma}; expected at least 1")
    # References trained on a record of the population or not, whichever they are: no coins there.
    everyone = np.ones(population.references.shape, dtype=np.bool_)
    background = population.observed - _log_mean(population.references, everyone)
    wanted = log_ratios - np.log(gamma)
    flat_wanted = wanted.reshape(-1, wanted.shape[-1])
    flat_background = np.sort(background.reshape(len(flat_wanted), -1), axis=-1)
    shares = [
        np.searchsorted(row, at, side="right") / len(row)
        for row, at in zip(flat_background, flat_wanted, strict=True)
    ]
    return np.asarray(shares, dtype=np.float64).reshape(wanted.shape)


def _log_mean(logs: Floats, used: NDArray[np.bool_]) -> Floats:
    """The log of the mean over the models that are used: [records]."""
    counts = used.sum(axis=0)
    if counts.min(initial=1) < 1:
        raise ValueError("a target has no reference model with it, or none without it")
    terms = np.where(used, np.maximum(logs, _LEAST_LOG), -np.inf)
    return np.asarray(np.logaddexp.reduce(terms, axis=0) - np.log(counts))
