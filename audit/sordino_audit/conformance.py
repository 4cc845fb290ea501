"""Whether the noise in held-out lanes is the noise of the plan: its scale, and its freshness.

A held-out lane holds noise and nothing else, so these tests need no canary and are far stronger
than any membership test. Assumed: the planned noise is Gaussian, as it is. All are exact: nothing
is approximated, and where the smallest of several p-values counts it is corrected for their number.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.findings import UNKNOWN, Interval

Floats = NDArray[np.float64]

_BLOCK_ROUNDS = 2048
_BLOCK_LANES = 512


def noise_ratio(noise: Floats, *, confidence: float) -> Interval:
    """Measured over claimed standard deviation of Gaussian noise, whose mean is known to be 0.

    Args:
        noise: readings of held-out lanes over their claimed standard deviation, any shape.
        confidence: coverage of the interval.
    """
    return ratio_of_squares(float(np.sum(noise**2)), noise.size, confidence=confidence)


def ratio_of_squares(squares: float, count: int, *, confidence: float) -> Interval:
    """The chi-square interval for a Gaussian's scale.

    Args:
        squares: sum of squared noise over the claimed variance.
        count: how many independent numbers were squared.
        confidence: coverage of the interval.
    """
    if count == 0:
        return UNKNOWN
    tail = (1 - confidence) / 2
    return Interval(
        low=float(np.sqrt(squares / stats.chi2.isf(tail, count))),
        estimate=float(np.sqrt(squares / count)),
        high=float(np.sqrt(squares / stats.chi2.ppf(tail, count))),
    )


def scale_p_values(noise: Floats) -> tuple[float, float]:
    """One-sided p-values that there is less, and that there is more noise than claimed.

    Args:
        noise: readings of held-out lanes over their claimed standard deviation, any shape.
    """
    squares, count = float(np.sum(noise**2)), noise.size
    if count == 0:
        return 1.0, 1.0
    return float(stats.chi2.cdf(squares, count)), float(stats.chi2.sf(squares, count))


def quietest_round_p_value(noise: Sequence[Floats]) -> float:
    """P-value that no single round of a site has less noise than claimed.

    One round without noise gives a unit away, and hardly changes the scale of all rounds together.

    Args:
        noise: per site, readings of held-out lanes, shape (rounds, groups, lanes).
    """
    p_values = [
        stats.chi2.cdf(np.sum(each**2, axis=(1, 2)), each[0].size) for each in noise if each[0].size
    ]
    return smallest(np.concatenate(p_values).tolist() if p_values else [])


def detectable_deficit(count: int, *, error: float, power: float) -> float:
    """Smallest fraction of missing noise that the scale test finds with probability `power`.

    Args:
        count: number of readings of held-out lanes.
        error: the test's level.
        power: wanted probability of detection.
    """
    if count == 0:
        return 1.0
    return float(1 - np.sqrt(stats.chi2.ppf(error, count) / stats.chi2.ppf(power, count)))


def freshness_p_value(noise: Sequence[Floats]) -> float:
    """P-value that noise is drawn anew, for every round and for every lane.

    Repeated noise has too little spread within a lane (or within a round) for the spread of the
    means; noise that cancels over rounds has too much. The ratio has an F distribution under
    independent Gaussian noise of any scale; two-sided, over lanes and over rounds, for each group.

    Args:
        noise: per site, readings of held-out lanes, shape (rounds, groups, lanes).
    """
    p_values = []
    for group in range(noise[0].shape[1]):
        of_group = [each[:, group] for each in noise]
        p_values += [
            _repetition_p_value(of_group),
            _repetition_p_value([each.T for each in of_group]),
        ]
    return smallest(p_values)


def repeated_rounds_p_value(noise: Sequence[Floats]) -> float:
    """P-value that no two rounds share noise, as after a seed that a restart brings back.

    The largest correlation of two rounds in one group at one site. Of many rounds, each is
    compared with those of its block of 2,048; of many lanes, the first 512 count.

    Args:
        noise: per site, readings of held-out lanes, shape (rounds, groups, lanes).
    """
    pairs, p_values = 0, [1.0]
    for rows in (each[:, group, :_BLOCK_LANES] for each in noise for group in range(each.shape[1])):
        for start in range(0, len(rows), _BLOCK_ROUNDS):
            block = rows[start : start + _BLOCK_ROUNDS]
            pairs += len(block) * (len(block) - 1) // 2
            p_values.append(_correlated_p_value(_largest_correlation(block), rows.shape[1]))
    return min(1.0, max(pairs, 1) * min(p_values))


def cross_site_p_value(readings: Sequence[Floats], held_out: Sequence[NDArray[np.bool_]]) -> float:
    """P-value that no two sites share noise, by lanes that are held out at both.

    Args:
        readings: per site, shape (rounds, groups, lanes), the same shape at all sites.
        held_out: per site, shape (lanes,).
    """
    return smallest(
        [
            _correlation_p_value(readings[a][:, group, shared], readings[b][:, group, shared])
            for a, b, shared in _pairs_of_sites(held_out)
            for group in range(readings[a].shape[1])
        ]
    )


def cross_layer_p_value(noise: Sequence[Floats]) -> float:
    """P-value that no two parameter groups share noise, as under one seed for every layer.

    Args:
        noise: per site, readings of held-out lanes, shape (rounds, groups, lanes).
    """
    joined = np.concatenate(noise, axis=2)
    return smallest(
        [
            _correlation_p_value(joined[:, a], joined[:, b])
            for a, b in combinations(range(joined.shape[1]), 2)
        ]
    )


def smallest(p_values: Sequence[float]) -> float:
    """The p-value of several tests together: the smallest times their number (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values)) if p_values else 1.0


def _pairs_of_sites(
    held_out: Sequence[NDArray[np.bool_]],
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    for a, b in combinations(range(len(held_out)), 2):
        yield a, b, held_out[a] & held_out[b]


def _repetition_p_value(noise: Sequence[Floats]) -> float:
    between = within = 0.0
    between_count = within_count = 0
    for each in noise:
        repeats, columns = each.shape
        if repeats < 2 or columns == 0:  # noqa: PLR2004
            continue
        means = each.mean(axis=0)
        between += float(repeats * np.sum(means**2))
        within += float(np.sum((each - means) ** 2))
        between_count += columns
        within_count += columns * (repeats - 1)
    if not between_count or between == within == 0:
        return 1.0
    if within == 0:
        return 0.0
    ratio = (between / between_count) / (within / within_count)
    tails = (
        stats.f.cdf(ratio, between_count, within_count),
        stats.f.sf(ratio, between_count, within_count),
    )
    return min(1.0, 2 * float(min(tails)))


def _correlation_p_value(first: Floats, second: Floats) -> float:
    norms = float(np.sum(first**2)) * float(np.sum(second**2))
    if norms == 0:
        return 1.0
    return _correlated_p_value(float(np.sum(first * second)) ** 2 / norms, first.size)


def _correlated_p_value(squared: float, count: int) -> float:
    """Of a squared correlation of Gaussian rows of known mean: a Beta variable (Fisher 1915)."""
    if count < 2:  # noqa: PLR2004
        return 1.0
    return float(stats.beta.sf(min(1.0, squared), 0.5, (count - 1) / 2))


def _largest_correlation(rows: Floats) -> float:
    """The largest squared correlation of two different rows; 0 without two."""
    norms = np.sqrt(np.sum(rows**2, axis=1, keepdims=True))
    if len(rows) < 2 or rows.shape[1] == 0:  # noqa: PLR2004
        return 0.0
    scaled = rows / np.where(norms > 0, norms, 1.0)
    products = scaled @ scaled.T
    np.fill_diagonal(products, 0.0)
    return float(np.max(products**2))
