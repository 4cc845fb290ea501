import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from sordino_protocols.accounting import ORDERS
from sordino_protocols.privacy import (
    DiscreteGaussian,
    DiscreteLaplace,
    Exponential,
    ExponentialQuantile,
    Gaussian,
    Laplace,
    Leaf,
    PoissonGaussian,
)
from sordino_protocols.renyi_divergences import Values, divergences

FEW = (2, 3, 5, 8)
Law = tuple[Values, Values]


def divergence(upper: Values, lower: Values, order: int) -> float:
    """The Rényi divergence of two laws on the same finite set."""
    both = (upper > 0) & (lower > 0)
    logs = order * np.log(upper[both]) + (1 - order) * np.log(lower[both])
    return float(special.logsumexp(logs)) / (order - 1)


def moment(rate: float, noise: float, power: int) -> float:
    """E of (mixture / Gaussian)^power under the Gaussian, by numerical integration alone."""

    def weighted(x: float) -> float:
        growth = 1 - rate + rate * math.exp((2 * x - 1) / (2 * noise**2))
        return float(growth**power * stats.norm.pdf(x, 0, noise))

    peak = abs(power) + 10 * noise
    points = [0.0, abs(float(power))]
    return float(integrate.quad(weighted, -peak, peak, limit=500, points=points)[0])


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 1.0), (0.5, 2.0), (0.02, 0.8)])
def test_the_sampled_gaussian_is_taken_in_its_dearer_direction(rate: float, noise: float) -> None:
    for order, ours in zip(FEW, divergences(PoissonGaussian(rate, noise, 1), FEW), strict=True):
        removed, added = (
            math.log(moment(rate, noise, power)) / (order - 1) for power in (order, 1 - order)
        )
        assert ours == pytest.approx(max(removed, added), rel=1e-6)
        assert added < removed


@pytest.mark.parametrize(
    ("rate", "noise"), [(0.01, 1.1), (0.1, 8.0), (0.9, 20.0), (1e-3, 0.8), (1.0, 4.0)]
)
def test_another_library_computes_the_same_sampled_gaussian(rate: float, noise: float) -> None:
    accountant = rdp.RdpAccountant(ORDERS)
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(step, 3)
    ours = divergences(PoissonGaussian(rate, noise, 3), ORDERS)
    assert ours == pytest.approx(np.asarray(accountant.rdp), rel=1e-9)


@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0, 1e3])
def test_another_library_computes_the_same_laplace(scale: float) -> None:
    accountant = rdp.RdpAccountant(ORDERS)
    accountant.compose(dp_accounting.LaplaceDpEvent(scale))
    assert divergences(Laplace(scale), ORDERS) == pytest.approx(
        np.asarray(accountant.rdp), rel=1e-6
    )


def discrete_laws(weights: Values, sensitivity: int) -> Law:
    padded = np.append(weights / weights.sum(), np.zeros(sensitivity))
    return padded, np.roll(padded, sensitivity)


@pytest.mark.parametrize(("sigma", "sensitivity"), [(0.4, 1), (1.0, 1), (3.0, 2), (10.0, 1)])
def test_the_curve_of_discrete_noise_bounds_its_divergence(sigma: float, sensitivity: int) -> None:
    reach = math.ceil(30 * sigma)
    numbers = np.arange(-reach, reach + 1)
    upper, lower = discrete_laws(np.exp(-0.5 * (numbers / sigma) ** 2), sensitivity)
    for order, ours in zip(
        FEW, divergences(DiscreteGaussian(sigma, sensitivity), FEW), strict=True
    ):
        exact = divergence(upper, lower, order)
        assert exact <= ours * (1 + 1e-6)
        # And tightly so, unless there is hardly any noise.
        assert sigma < 1 or ours <= exact * (1 + 1e-3)


@pytest.mark.parametrize("scale", [0.5, 2.0, 20.0])
def test_the_curve_of_geometric_noise_is_its_divergence(scale: float) -> None:
    numbers = np.arange(-math.ceil(40 * scale), math.ceil(40 * scale) + 1)
    upper, lower = discrete_laws(np.exp(-np.abs(numbers) / scale), 1)
    for order, ours in zip(FEW, divergences(DiscreteLaplace(scale), FEW), strict=True):
        exact = divergence(upper, lower, order)
        assert ours == pytest.approx(exact, rel=1e-6)


@given(epsilon=st.floats(0.01, 10), share=st.floats(0, 1), order=st.sampled_from(FEW))
def test_no_mechanism_of_bounded_range_exceeds_the_curve_of_a_quantile(
    epsilon: float, share: float, order: int
) -> None:
    # Two losses, epsilon apart: the worst there is, wherever they lie.
    top, bottom = math.exp(share * epsilon), math.exp((share - 1) * epsilon)
    lower = np.array([1 - bottom, top - 1]) / (top - bottom)
    upper = lower * np.array([top, bottom])
    bound = float(divergences(ExponentialQuantile(epsilon), (order,))[0])
    assert divergence(upper, lower, order) <= bound * (1 + 1e-9) + 1e-12


LEAVES: tuple[Leaf, ...] = (
    PoissonGaussian(0.1, 1e-200, 3),
    PoissonGaussian(0.1, 1e200, 3),
    PoissonGaussian(1e-300, 0.01, 10**9),
    PoissonGaussian(1 - 1e-16, 1.0, 1),
    Gaussian(1e-200),
    Gaussian(1e200),
    DiscreteGaussian(1e-300),
    DiscreteGaussian(1e5, 10**5),
    Laplace(1e-320),
    Laplace(1e-5),
    Laplace(1e300),
    DiscreteLaplace(1e-320),
    DiscreteLaplace(1e300),
    ExponentialQuantile(1e300),
    ExponentialQuantile(1e-300),
    Exponential(1e300),
    Exponential(1e-300),
)


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_extreme_mechanisms_have_a_cost_too(leaf: Leaf) -> None:
    values = divergences(leaf, ORDERS)
    assert not np.isnan(values).any()
    assert (values >= 0).all()
    # Order upon order, up to the last digit.
    with np.errstate(invalid="ignore"):
        assert not (np.diff(values) < -1e-9 * values[:-1]).any()
