"""The one place where a test decides about something random.

Each assertion is an exact test that fails on correct code with at most the stated probability,
1e-9 unless said. So a failure is a finding, never bad luck, and no test needs a retry.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FALSE_FAILURE = 1e-9


def assert_rate(
    successes: int,
    trials: int,
    expected: float,
    *,
    at_most: bool = False,
    at_least: bool = False,
    false_failure: float = FALSE_FAILURE,
) -> None:
    """Assert that independent trials succeed with probability `expected`.

    Exact binomial test: one-sided with `at_most` (the true rate is no larger than expected) or
    `at_least` (no smaller), else two-sided.

    Args:
        successes: how many trials succeeded.
        trials: how many independent trials ran.
        expected: the probability of success in [0, 1].
        at_most: fail only when there are too many successes.
        at_least: fail only when there are too few.
        false_failure: largest probability of failing although the rate is as expected.
    """
    assert not (at_most and at_least), "choose one side"
    assert trials >= 1
    assert 0 <= successes <= trials
    side = "greater" if at_most else "less" if at_least else "two-sided"
    p_value = float(stats.binomtest(successes, trials, expected, alternative=side).pvalue)
    assert p_value >= false_failure, (
        f"{successes} of {trials} = {successes / trials:.6g}, expected {expected:.6g} ({side}): "
        f"a correct implementation does this with probability {p_value:.2g}"
    )


def assert_scale(
    samples: NDArray[np.float64],
    expected_std: float,
    *,
    expected_mean: float = 0.0,
    false_failure: float = FALSE_FAILURE,
) -> None:
    """Assert that independent Gaussian samples have the given standard deviation.

    Two-sided chi-square test of the sum of squares around `expected_mean`. At n = 20,000 it finds
    a scale that is 5 % off with probability > .9999, at n = 5,000 one that is 10 % off.

    Args:
        samples: any shape; every entry is one sample.
        expected_std: the standard deviation, > 0.
        expected_mean: the known mean.
        false_failure: largest probability of failing although the scale is as expected.
    """
    flat = np.asarray(samples, dtype=np.float64).ravel()
    assert flat.size >= 1
    assert expected_std > 0
    assert np.isfinite(flat).all(), "a sample is not finite"
    statistic = float(np.sum(((flat - expected_mean) / expected_std) ** 2))
    tails = stats.chi2.cdf(statistic, flat.size), stats.chi2.sf(statistic, flat.size)
    p_value = min(1.0, 2 * float(min(tails)))
    measured = float(np.sqrt(statistic / flat.size)) * expected_std
    assert p_value >= false_failure, (
        f"standard deviation {measured:.6g} of {flat.size} samples, expected {expected_std:.6g}: "
        f"a correct implementation does this with probability {p_value:.2g}"
    )


def assert_discrete_gaussian(
    samples: NDArray[np.float64] | NDArray[np.int64],
    sigma: float,
    *,
    false_failure: float = FALSE_FAILURE,
) -> None:
    """Assert that independent integers are from the discrete Gaussian around 0 with this sigma.

    Chi-square test of counts against the probabilities, tails merged so that each cell expects 20
    or more, where the distribution of the statistic is close to its limit.

    Args:
        samples: any shape; every entry is one sample, a whole number.
        sigma: of the distribution, > 0.
        false_failure: largest probability of failing although the distribution is as expected.
    """
    flat = np.asarray(samples, dtype=np.float64).ravel()
    assert np.array_equal(flat, np.rint(flat)), "a sample is no whole number"
    reach = int(np.ceil(12 * sigma)) + 2
    numbers = np.arange(-reach, reach + 1)
    probabilities = np.exp(-0.5 * (numbers / sigma) ** 2)
    probabilities /= probabilities.sum()
    # Several numbers a cell where sigma is large, so that scale and shape weigh more than texture.
    width = max(1, int(sigma // 4))
    cells = (numbers + reach) // width
    expected = np.bincount(cells, probabilities) * flat.size
    observed = np.bincount((np.clip(flat, -reach, reach).astype(np.int64) + reach) // width)
    observed = np.pad(observed, (0, len(expected) - len(observed)))
    is_kept = expected >= 20
    expected = np.append(expected[is_kept], expected[~is_kept].sum())
    observed = np.append(observed[is_kept], observed[~is_kept].sum())
    statistic = float(np.sum((observed - expected) ** 2 / np.maximum(expected, 20)))
    p_value = float(stats.chi2.sf(statistic, len(expected) - 1))
    assert p_value >= false_failure, (
        f"{flat.size} samples, standard deviation {flat.std():.6g}, are not from the discrete "
        f"Gaussian of sigma {sigma:.6g}: it does this with probability {p_value:.2g}"
    )
