"""Probes of the code that releases marginals: what one unit can change, and what is added to it.

Most put a number of their own in place of all noise, so that nothing is left to chance; those of
secret noise are wrong about correct code once in a million at most.
"""

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from sordino_audit.conformance import repeated_rounds_p_value
from sordino_audit.probes.chance import (
    FALSE_ALARM,
    measured_scale,
    rate_p_value,
    scale_p_value,
    smallest,
)
from sordino_audit.probes.found import Found
from sordino_audit.probes.sources import Constant
from sordino_audit.synthesis.subject import (
    Cells,
    Floats,
    Release,
    ReleaseCase,
    drawn_cells,
    extreme_cells,
)
from sordino_client.training.noise import SecureNoise

UNITS = 40
"""Units in the tables on which release code is tried."""
COUNTS_WEIGHED = 12_000
"""Noisy counts of secret noise that are weighed; fewer of a plan that has few of them."""

_SEED = 5
_NEIGHBOURS = 16
_ROUNDING = 1e-9
_MOST_PAIRS = 50
_ENOUGH_TO_CORRELATE = 500


def length(release: Release, case: ReleaseCase) -> Found:
    """A release is so many whole numbers as the plan says, whoever is in the table."""
    for cells in (case.nobody(), extreme_cells(case.shape), _units(case, UNITS)):
        made = release(case.asked(cells, Constant(1.0)))
        if made.shape != (case.length,) or made.dtype != np.int32:
            return Found(
                is_passed=False,
                message=f"a release has shape {made.shape} of {made.dtype} where {case.length}"
                " whole numbers are declared",
            )
    return Found(is_passed=True, message=f"a release is {case.length} whole numbers")


def sensitivity(release: Release, case: ReleaseCase) -> Found:
    """One unit more moves a release by no more than is charged, whoever else is in the table.

    The noise of both is the same number, so what a unit adds is seen exactly.
    """
    largest = 0.0
    for crowd in (case.nobody(), _units(case, UNITS)):
        before = _repeated(release, case, crowd)
        for unit in (*extreme_cells(case.shape), *_units(case, _NEIGHBOURS)):
            added = _repeated(release, case, np.vstack([crowd, unit])) - before
            largest = max(largest, math.sqrt(float(np.sum((added / case.noise_stds()) ** 2))))
            if (broken := _overcounted(case, added)) is not None:
                return Found(is_passed=False, message=broken)
    return Found(
        largest <= case.mu * (1 + _ROUNDING),
        f"a unit moved a release by {largest / case.mu:.4f} of what is charged",
    )


def noise_on_every_count(release: Release, case: ReleaseCase) -> Found:
    """Every count gets noise of its planned sigma once, with nobody in the table and with many."""
    planned = np.rint(case.noise_stds())
    for cells in (case.nobody(), _units(case, UNITS)):
        quiet, loud = (
            release(case.asked(cells, Constant(value))).astype(np.float64) for value in (0.0, 1.0)
        )
        wrong = int(np.count_nonzero(loud - quiet != planned))
        if wrong:
            return Found(
                is_passed=False,
                message=f"{wrong} of {case.length} counts have no noise, or another than planned",
            )
    return Found(is_passed=True, message=f"all {case.length} counts have their planned noise")


def noise_scale(release: Release, case: ReleaseCase) -> Found:
    """Secret noise has its planned scale, of every marginal by itself."""
    noise = _secret_noise(release, case)
    # The p-values are those of Gaussian noise, which at these sigmas is the discrete one's limit.
    p_value = smallest([scale_p_value(noise), *(map(scale_p_value, _by_marginal(case, noise)))])
    return Found(
        p_value > FALSE_ALARM,
        f"noise was {measured_scale(noise):.4f} times what is accounted, {noise.size:,} counts"
        f" weighed (corrected p-value {p_value:.2g})",
    )


def noise_with_units(release: Release, case: ReleaseCase) -> Found:
    """Secret noise has its planned scale around the counts of many units, too."""
    cells = _units(case, UNITS)
    draws = _releases(release, case, cells)
    spread = (draws[::2] - draws[1::2]) / (math.sqrt(2) * case.noise_stds())
    p_value = scale_p_value(spread)
    return Found(
        p_value > FALSE_ALARM,
        f"noise around the counts was {measured_scale(spread):.4f} times what is accounted"
        f" (p-value {p_value:.2g})",
    )


def freshness(release: Release, case: ReleaseCase) -> Found:
    """No two releases share noise, and no two marginals of one release do."""
    noise = _secret_noise(release, case)
    p_value = smallest(
        [_repeated_p_value(noise), _agreement_p_value(noise[:-1], noise[1:])]
        + [_agreement_p_value(*pair) for pair in _pairs_of_marginals(case, noise)]
    )
    return Found(
        p_value > FALSE_ALARM,
        f"{len(noise)} releases and their {len(case.marginals)} marginals have noise of their own"
        f" (corrected p-value {p_value:.2g})",
    )


def _overcounted(case: ReleaseCase, added: Floats) -> str | None:
    """Whether a unit is in a count twice, or in more counts of a marginal than it may be."""
    for marginal, part in zip(case.marginals, _by_marginal(case, added), strict=True):
        counted = int(np.abs(part).sum())
        if np.abs(part).max(initial=0) > 1 or counted > marginal.contribution:
            return (
                f"a unit adds {counted} to the marginal of columns {marginal.columns}, where"
                f" {marginal.contribution} is charged"
            )
    return None


def _repeated_p_value(noise: Floats) -> float:
    """P-value that no two releases share noise; of few whole numbers it would not be exact."""
    if noise.shape[1] < _ENOUGH_TO_CORRELATE:
        return 1.0
    return repeated_rounds_p_value([noise[:, np.newaxis, :]])


def _pairs_of_marginals(case: ReleaseCase, noise: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Noise of every two marginals, count by count as far as both go."""
    for first, second in combinations(_by_marginal(case, noise), 2):
        width = min(first.shape[1], second.shape[1])
        yield first[:, :width], second[:, :width]


def _agreement_p_value(first: Floats, second: Floats) -> float:
    """P-value that noise is independent: where none is 0, signs agree half of the time (exact)."""
    products = first * second
    told = products[products != 0]
    return rate_p_value(int(np.sum(told > 0)), told.size, 0.5) if told.size else 1.0


def _secret_noise(release: Release, case: ReleaseCase) -> Floats:
    """Noise of releases about nobody over its planned sigma, [releases, length]."""
    return _releases(release, case, case.nobody()) / case.noise_stds()


def _releases(release: Release, case: ReleaseCase, cells: Cells) -> Floats:
    pairs = min(math.ceil(COUNTS_WEIGHED / case.length / 2), _MOST_PAIRS)
    made = [release(case.asked(cells, SecureNoise())) for _ in range(2 * pairs)]
    return np.stack(made).astype(np.float64)


def _repeated(release: Release, case: ReleaseCase, cells: Cells) -> Floats:
    return release(case.asked(cells, Constant(1.0))).astype(np.float64)


def _units(case: ReleaseCase, count: int) -> Cells:
    return drawn_cells(case.shape, count, rng=np.random.default_rng(_SEED))


def _by_marginal(case: ReleaseCase, counts: Floats) -> list[Floats]:
    """The counts of each marginal: the last axis cut into parts."""
    ends = np.cumsum([each.cells for each in case.marginals])
    return np.split(counts, ends[:-1], axis=-1)
