"""Histogram tests of mechanisms: against their exact distribution, and against their claim.

`shape_p_value` holds outputs against the distribution that is planned: far stronger, and blind to a
plan that is wrong. `ratio_bound` assumes nothing but independent draws: it looks for an event that
neighbours do not share as (epsilon, delta) says, on one half of the draws, and bounds its
probabilities on the other (Clopper & Pearson 1934).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.bounds.clopper_pearson import Counts, epsilon_lower_bound
from sordino_audit.primitives.mechanisms import Mechanism
from sordino_client.training.noise import Noise

Floats = NDArray[np.float64]

_CELLS = 60
_FEWEST_EXPECTED = 20.0
_THRESHOLDS = 200


def shape_p_value(outputs: Floats, mechanism: Mechanism) -> float:
    """P-value that noise has its planned distribution (Pearson 1900, chi-square).

    Args:
        outputs: of the mechanism on nothing.
        mechanism: noise on a coarse grid is held against the exact probabilities of its cells.
    """
    if mechanism.name == "evaluation":
        return discrete_gaussian_p_value(np.rint(outputs).astype(np.int64), mechanism)
    return gaussian_p_value(outputs, mechanism.noise_multiplier, grain=mechanism.grain)


def gaussian_p_value(outputs: Floats, std: float, *, grain: float) -> float:
    """P-value that outputs are Gaussian noise, rounded to multiples of `grain`.

    Args:
        outputs: independent, of mean 0.
        std: of the noise before rounding.
        grain: 0 for none.
    """
    edges = stats.norm.ppf(np.linspace(0, 1, _CELLS + 1)[1:-1]) * std
    if grain:
        # Between two multiples, so that rounding moves no output across an edge.
        edges = np.unique((np.floor(edges / grain) + 0.5) * grain)
    bounds = np.concatenate([[-np.inf], edges, [np.inf]])
    expected = np.diff(stats.norm.cdf(bounds / std)) * len(outputs)
    observed = np.bincount(np.searchsorted(edges, outputs), minlength=len(expected))
    return _chi_square(observed.astype(np.float64), expected)


def discrete_gaussian_p_value(outputs: NDArray[np.int64], mechanism: Mechanism) -> float:
    """P-value that whole numbers have the discrete Gaussian's exact probabilities.

    Args:
        outputs: independent draws around 0.
        mechanism: whose noise multiplier is the sigma.
    """
    sigma = mechanism.noise_multiplier
    reach = math.ceil(12 * sigma) + 2
    numbers = np.arange(-reach, reach + 1)
    probabilities = np.exp(-0.5 * (numbers / sigma) ** 2)
    expected = probabilities / probabilities.sum() * len(outputs)
    clipped = np.clip(outputs, -reach, reach) + reach
    observed = np.bincount(clipped, minlength=len(numbers)).astype(np.float64)
    return _chi_square(observed, expected)


def ratio_bound(
    mechanism: Mechanism, noise: Noise, *, draws: int, delta: float, confidence: float
) -> float:
    """A lower bound on the epsilon of one draw, free of assumptions about the noise.

    Args:
        mechanism: on nothing, and on nothing but one unit.
        noise: what it draws from.
        draws: on each side; half of them choose the event.
        delta: at which.
        confidence: of the bound.
    """
    without, with_unit = (mechanism.draw(draws, has_unit, noise) for has_unit in (False, True))
    half = draws // 2
    thresholds = np.quantile(
        np.concatenate([without[:half], with_unit[:half]]), np.linspace(0, 1, _THRESHOLDS)
    )
    chosen = max(
        thresholds,
        key=lambda value: _bound(without[:half], with_unit[:half], value, delta, confidence),
    )
    return _bound(without[half:], with_unit[half:], chosen, delta, confidence)


def _bound(
    without: Floats, with_unit: Floats, threshold: float, delta: float, confidence: float
) -> float:
    counts = Counts(
        false_positives=int(np.sum(without >= threshold)),
        held_out=len(without),
        false_negatives=int(np.sum(with_unit < threshold)),
        inserted=len(with_unit),
    )
    return epsilon_lower_bound(counts, delta=delta, confidence=confidence)


def _chi_square(observed: Floats, expected: Floats) -> float:
    """Of counts, cells that expect few merged into one."""
    is_kept = expected >= _FEWEST_EXPECTED
    rest = expected[~is_kept].sum()
    observed = np.append(observed[is_kept], observed[~is_kept].sum())
    expected = np.append(expected[is_kept], rest)
    if rest < _FEWEST_EXPECTED:
        # Too few for a cell of their own: with the last one that is kept.
        observed = np.append(observed[:-2], observed[-2:].sum())
        expected = np.append(expected[:-2], expected[-2:].sum())
    statistic = float(np.sum((observed - expected) ** 2 / expected))
    return float(stats.chi2.sf(statistic, len(expected) - 1))
