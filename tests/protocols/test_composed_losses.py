import itertools
import math
from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from sordino_protocols.accounting import epsilon_by_pld, gaussian_epsilon
from sordino_protocols.composed_losses import GridLosses, Release, composed_losses
from sordino_protocols.loss_distributions import loss_distribution, parts_of
from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    Event,
    Laplace,
    PoissonGaussian,
    SelfComposed,
)
from sordino_protocols.unsampled_losses import unsampled_losses

DELTA = 1e-5
EPSILONS = (0.0, 0.1, 0.3, 1.0, 2.0)

Values = npt.NDArray[np.float64]


def delta_of(losses: Values, probabilities: Values, epsilon: float) -> float:
    return float(probabilities @ -np.expm1(np.minimum(epsilon - losses, 0.0)))


def delta_on_grid(grid: GridLosses, epsilon: float) -> float:
    return delta_of(grid.losses(), grid.probabilities, epsilon) + grid.lost


def atoms(release: DiscreteGaussian) -> tuple[Values, Values]:
    """Losses and their probabilities, by definition."""
    furthest = math.ceil(12 * release.noise_std)
    noises = np.arange(-furthest, furthest + 1)
    weights = np.exp(-0.5 * (noises / release.noise_std) ** 2)
    weights /= weights.sum()
    shifted = np.exp(-0.5 * ((noises + release.sensitivity) / release.noise_std) ** 2)
    shifted /= np.exp(-0.5 * (noises / release.noise_std) ** 2).sum()
    return np.log(weights / shifted), weights


def exact(releases: list[Release]) -> tuple[Values, Values]:
    """All outcomes of a few releases together, one by one."""
    losses, probabilities = np.zeros(1), np.ones(1)
    for release, count in releases:
        for _ in range(count):
            more, shares = atoms(release)
            losses = np.add.outer(losses, more).ravel()
            probabilities = np.multiply.outer(probabilities, shares).ravel()
    return losses, probabilities


FEW: list[list[Release]] = [
    [(DiscreteGaussian(3.0), 1), (DiscreteGaussian(4.3), 1)],
    [(DiscreteGaussian(0.7), 1), (DiscreteGaussian(9.1, 2), 1)],
    [(DiscreteGaussian(1.9), 3)],
    [(DiscreteGaussian(0.4), 1), (DiscreteGaussian(0.5), 1), (DiscreteGaussian(0.9), 1)],
]


@pytest.mark.parametrize("releases", FEW)
@pytest.mark.parametrize("step", [None, 0.05])
def test_never_understates_what_a_list_of_all_outcomes_says(
    releases: list[Release], step: float | None
) -> None:
    losses, probabilities = exact(releases)
    grid = composed_losses(releases, step=step)
    for epsilon in EPSILONS:
        true = delta_of(losses, probabilities, epsilon)
        assert true <= delta_on_grid(grid, epsilon) * (1 + 1e-12)
        if step is None:
            assert delta_on_grid(grid, epsilon) == pytest.approx(true, rel=2e-2, abs=2e-5)


def test_the_check_finds_losses_that_are_only_rounded() -> None:
    # The nearest grid point, or the one below: as close, and no bound.
    releases = FEW[0]
    losses, probabilities = exact(releases)
    for rounded in (np.round(losses / 0.05), np.floor(losses / 0.05)):
        understated = [
            delta_of(rounded * 0.05, probabilities, epsilon)
            < delta_of(losses, probabilities, epsilon) * (1 - 1e-12)
            for epsilon in EPSILONS
        ]
        assert any(understated)


@pytest.mark.parametrize("mu", [0.05, 0.4, 1.5])
@pytest.mark.parametrize("release", [DiscreteGaussian(3.0), DiscreteGaussian(30.0, 2)])
def test_a_continuous_gaussian_joins_in(mu: float, release: DiscreteGaussian) -> None:
    losses, probabilities = atoms(release)
    closed = unsampled_losses(parts_of(release))
    assert closed is not None
    grid = composed_losses([(release, 1)], mu_squared=mu**2)
    for epsilon in EPSILONS:
        # Of the Gaussian alone there is a closed form, at each loss of the lattice.
        terms = [_gaussian_delta(mu, epsilon - loss) for loss in losses.tolist()]
        true = float(probabilities @ np.array(terms))
        assert true <= delta_on_grid(grid, epsilon) * (1 + 1e-9)
        assert delta_on_grid(grid, epsilon) == pytest.approx(true, rel=1e-2, abs=1e-6)


def _gaussian_delta(mu: float, epsilon: float) -> float:
    def cdf(value: float) -> float:
        return math.erfc(-value / math.sqrt(2)) / 2

    return cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * cdf(-mu / 2 - epsilon / mu)


def marginals(count: int, *, sigmas: int, mu: float) -> Event:
    """So many noisy tables with few different sigmas, together like one Gaussian of this mu."""
    counts = [count // sigmas + (index < count % sigmas) for index in range(sigmas)]
    shape = np.geomspace(1.0, 4.0, sigmas)
    total = float(np.sum(np.array(counts) / shape**2))
    noises = [float(f"{math.sqrt(total) / mu * each:.4g}") for each in shape]
    return Composed(
        tuple(
            SelfComposed(DiscreteGaussian(noise), repeated)
            for noise, repeated in zip(noises, counts, strict=True)
        )
    )


@pytest.mark.parametrize(("count", "sigmas"), [(105, 50), (1431, 50), (300, 2), (20_000, 7)])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_many_wide_releases_cost_what_their_gaussians_cost_within_a_thousandth(
    count: int, sigmas: int, delta: float
) -> None:
    event = marginals(count, sigmas=sigmas, mu=0.27)
    total = math.fsum(
        repeated / leaf.noise_std**2
        for leaf, repeated in parts_of(event).groups
        if isinstance(leaf, DiscreteGaussian)
    )
    # Noise this wide is a continuous Gaussian's, but for 1e-100 of it.
    closed = gaussian_epsilon(total**-0.5, delta)
    assert closed * (1 - 1e-9) <= epsilon_by_pld(event, delta) <= closed * (1 + 1e-3)


@pytest.mark.parametrize(
    "pairs", [((0.7, 2), (3.3, 4)), ((5.5, 1), (9.0, 4), (2.1, 1)), ((1.0, 1), (3.0, 1))]
)
def test_is_at_most_what_a_library_finds_which_rounds_every_loss_up(
    pairs: tuple[tuple[float, int], ...],
) -> None:
    library = reduce(
        lambda one, other: one.compose(other),
        (pld.from_discrete_gaussian_mechanism(s).self_compose(n) for s, n in pairs),
    )
    grid = composed_losses([(DiscreteGaussian(s), n) for s, n in pairs], step=1e-4)
    for epsilon in EPSILONS:
        theirs = library.get_delta_for_epsilon(epsilon)
        ours = delta_on_grid(grid, epsilon)
        assert theirs * (1 - 1e-2) <= ours <= theirs * (1 + 1e-9) + 1e-12


def test_many_releases_among_sampled_steps_cost_what_they_cost_one_by_one() -> None:
    noises = [7.0, 8.5, 9.0, 11.0, 12.5, 14.0]
    steps = PoissonGaussian(0.1, 1.5, 20)
    together = loss_distribution(Composed((steps, *map(DiscreteGaussian, noises))))
    apart = pld.from_gaussian_mechanism(1.5, sampling_prob=0.1).self_compose(20)
    for noise in noises:
        apart = apart.compose(pld.from_discrete_gaussian_mechanism(noise))
    assert together.get_epsilon_for_delta(DELTA) == pytest.approx(
        apart.get_epsilon_for_delta(DELTA), rel=1e-3
    )


def test_any_order_and_any_company_are_priced_alike() -> None:
    leaves = [DiscreteGaussian(noise) for noise in (3.0, 4.0, 5.0, 6.0, 7.0)]
    prices = {
        round(epsilon_by_pld(Composed(order), DELTA), 9)
        for order in itertools.islice(itertools.permutations(leaves), 0, 120, 29)
    }
    assert len(prices) == 1
    alone = prices.pop()
    assert alone < epsilon_by_pld(Composed((*leaves, Laplace(50.0))), DELTA) < alone + 0.1
