"""Second opinions on a price: a job whose price two libraries dispute is refused.

What a run costs is computed here twice, tightly and by Rényi curve. Opacus computes both for
Gaussian mechanisms with code of its own: its Rényi accountant, and PRV (Gopi et al. 2021), which is
tight. Opacus' third, by the central limit theorem (GDP), under-reports and is never asked. Other
mechanisms are held against dp-accounting's own distributions or against a closed form.

Measured over sampling rates from .01 to 1, noise from .7 to 60 and up to 2,000 steps (epsilon .015
to 16): Rényi epsilons agree to 1e-9, and tight ones to 2e-4 or 2e-4 of epsilon, whichever is more.
The tolerances are five times that and more; a wrong sampling rate or noise by one part in a hundred
is far outside. Both libraries take seconds to import, so that happens at the first check.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import numpy as np

from sordino_protocols.accounting import (
    ORDERS,
    RenyiCurve,
    epsilon_by_pld,
    epsilon_by_rdp,
    renyi_curve,
)
from sordino_protocols.errors import InputError
from sordino_protocols.loss_distributions import Parts, parts_of
from sordino_protocols.privacy import (
    Choice,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    Exponential,
    ExponentialQuantile,
    Gaussian,
    Laplace,
    Leaf,
    PoissonGaussian,
    SelfComposed,
    leaves,
)

# Of epsilon, and absolute.
_RDP_TOLERANCE = 1e-6
_PLD_TOLERANCE = 1e-3
# PRV's own error bound, which sizes its grid; its estimate is far closer.
_PRV_ERROR = 0.01
# Grids beyond this take gigabytes: such a run is checked by its Rényi curve alone.
_LARGEST_GRID = 2**21
_LARGEST_EPSILON = 100.0
# Standard deviations and points of an integral over a Gaussian: exact to 1e-10 of its mass.
_WIDTH = 12.0
_POINTS = 20_001

Curve = Callable[[Event], RenyiCurve]
Tight = Callable[[Event, float], float]
Other = Laplace | DiscreteLaplace | Choice


class AccountantsDisagreeError(InputError):
    """Two accountants price an event differently: nobody knows what it costs."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the accountants say, where they agree.

    Attributes:
        epsilon_pld: ours, tight.
        epsilon_rdp: ours, by Rényi curve.
        opacus_rdp: Opacus' by Rényi curve, of all Gaussian mechanisms; None if none is sampled.
        opacus_prv: Opacus' tight one of the same; None also where its grid would be too large.
        is_whole: whether Opacus' numbers are about the whole event. Discrete Gaussian noise is in
            them as continuous noise, which costs two hundredths less at most where sigma is 1 or
            more, and more where there is hardly any.
        delta: of all of them.
    """

    epsilon_pld: float
    epsilon_rdp: float
    opacus_rdp: float | None
    opacus_prv: float | None
    is_whole: bool
    delta: float


def check_accountants(
    event: Event, delta: float, *, curve: Curve = renyi_curve, tight: Tight = epsilon_by_pld
) -> Agreement:
    """Price an event by every accountant that knows it.

    Args:
        event: what is to be priced.
        delta: of the guarantee.
        curve: the Rényi curve that is checked.
        tight: the tight accountant that is checked.

    Raises:
        AccountantsDisagreeError: two of them differ by more than their errors.
    """
    epsilon_pld, epsilon_rdp = tight(event, delta), curve(event).epsilon(delta)
    if not epsilon_pld <= epsilon_rdp * (1 + _PLD_TOLERANCE) + _PLD_TOLERANCE:
        raise AccountantsDisagreeError(
            f"the tight epsilon {epsilon_pld:.6g} is above the Rényi bound {epsilon_rdp:.6g}"
        )
    for leaf in {leaf for leaf, _ in leaves(event)}:
        if not isinstance(leaf, Gaussian | PoissonGaussian):
            _check_other(leaf, delta, curve, tight)
    gaussians = _gaussian_part(event)
    opacus_rdp = opacus_prv = None
    if gaussians is not None and not _is_sampled(gaussians):
        precision = parts_of(gaussians).precision
        known = RenyiCurve(tuple(order * precision / 2 for order in ORDERS)).epsilon(delta)
        _require_close("by Rényi curve", curve(gaussians).epsilon(delta), known, _RDP_TOLERANCE)
        _check_closed_form(precision, tight(gaussians, delta), delta)
    elif gaussians is not None:
        opacus_rdp = _opacus_rdp(parts_of(gaussians), delta)
        ours = curve(gaussians).epsilon(delta)
        _require_close("by Rényi curve", ours, opacus_rdp, _RDP_TOLERANCE)
        opacus_prv = _opacus_prv(gaussians, delta)
        if opacus_prv is not None:
            _require_close("tightly", tight(gaussians, delta), opacus_prv, _PLD_TOLERANCE)
    is_whole = all(_is_gaussian(leaf) for leaf, _ in leaves(event))
    return Agreement(epsilon_pld, epsilon_rdp, opacus_rdp, opacus_prv, is_whole, delta)


def _require_close(how: str, ours: float, theirs: float, tolerance: float) -> None:
    if ours == theirs:
        return
    if not abs(ours - theirs) <= tolerance * (1 + abs(theirs)):
        raise AccountantsDisagreeError(
            f"epsilon {how} is {ours:.6g} here and {theirs:.6g} by the other accountant"
        )


def _is_sampled(gaussians: Event) -> bool:
    return any(isinstance(leaf, PoissonGaussian) for leaf, _ in parts_of(gaussians).groups)


def _check_closed_form(precision: float, ours: float, delta: float) -> None:
    """Hold a price that came from error functions against the integral that they solve.

    Where nothing is sampled all Gaussians are one, and nobody needs seconds for a second library.
    """
    mu = math.sqrt(precision)
    deviations = np.linspace(-_WIDTH, _WIDTH, _POINTS)
    density = np.exp(-(deviations**2) / 2) / math.sqrt(2 * math.pi)
    losses = mu * (deviations + mu / 2)

    def delta_at(epsilon: float) -> float:
        # E[max(0, 1 - e^(epsilon - loss))] over the privacy loss of one unit more.
        return float(np.trapezoid(-np.expm1(np.minimum(epsilon - losses, 0)) * density, deviations))

    margin = _PLD_TOLERANCE * (1 + ours)
    is_enough = delta_at(ours + margin) <= delta
    is_needed = ours == 0 or delta_at(max(ours - margin, 0.0)) >= delta or ours <= margin
    if not (is_enough and is_needed):
        raise AccountantsDisagreeError(
            f"epsilon by error functions is {ours:.6g} here, which the integral does not confirm"
        )


def _is_gaussian(leaf: Leaf) -> bool:
    return isinstance(leaf, Gaussian | PoissonGaussian | DiscreteGaussian)


def _gaussian_part(event: Event) -> Event | None:
    """The Gaussian mechanisms of an event, discrete noise taken as continuous."""
    kept: list[Event] = []
    for leaf, count in leaves(event):
        match leaf:
            case DiscreteGaussian(noise_std, sensitivity, unit):
                kept.append(SelfComposed(Gaussian(noise_std / sensitivity, unit), count))
            case Gaussian() | PoissonGaussian():
                kept.append(SelfComposed(leaf, count))
            case _:
                pass
    return Composed(tuple(kept)) if kept else None


def _opacus_parts(parts: Parts) -> list[tuple[float, float, int]]:
    """Sampling rate, noise multiplier and steps: what Opacus knows."""
    sampled = [
        (leaf.sampling_rate, leaf.noise_multiplier, count)
        for leaf, count in parts.groups
        if isinstance(leaf, PoissonGaussian)
    ]
    return sampled + ([(1.0, parts.precision**-0.5, 1)] if parts.precision else [])


@lru_cache(maxsize=256)
def _opacus_rdp(parts: Parts, delta: float) -> float:
    from opacus.accountants.analysis import rdp  # noqa: PLC0415  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curve = sum(
            np.asarray(rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=n, orders=ORDERS))
            for rate, noise, n in _opacus_parts(parts)
        )
        epsilon, _ = rdp.get_privacy_spent(orders=list(ORDERS), rdp=curve, delta=delta)
    return max(0.0, float(epsilon))


def _opacus_prv(gaussians: Event, delta: float) -> float | None:
    """The epsilon that PRV finds between its own error bounds; None where it cannot say."""
    if epsilon_by_rdp(gaussians, delta) > _LARGEST_EPSILON:
        return None
    return _prv_epsilon(parts_of(gaussians), delta)


@lru_cache(maxsize=256)
def _prv_epsilon(parts: Parts, delta: float) -> float | None:
    from opacus.accountants.analysis import prv  # noqa: PLC0415  # slow to import

    delta_error = delta / 1000
    variables, counts = [], []
    for rate, noise, steps in _opacus_parts(parts):
        variables.append(prv.PoissonSubsampledGaussianPRV(rate, noise))
        counts.append(steps)
    step = _PRV_ERROR / math.sqrt(sum(counts) * math.log(12 / delta_error) / 2)
    # At a rate of 1 it takes the logarithm of 0, which is right.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reach = prv.compute_safe_domain_size(
                prvs=variables,
                max_self_compositions=counts,
                eps_error=_PRV_ERROR,
                delta_error=delta_error,
            )
            if not 2 * reach / step <= _LARGEST_GRID:
                return None
            domain = prv.Domain.create_aligned(-reach, reach, step)
            discrete = [
                prv.discretize(
                    prv.TruncatedPrivacyRandomVariable(each, domain.t_min, domain.t_max), domain
                )
                for each in variables
            ]
            composed = prv.compose_heterogeneous(dprvs=discrete, num_self_compositions=counts)
            _, estimate, _ = composed.compute_epsilon(delta, delta_error, _PRV_ERROR)
        except (RuntimeError, ValueError):
            # Its way of saying that its grid does not suit this delta or this mechanism.
            return None
    return max(0.0, float(estimate))


def _check_other(leaf: Other | DiscreteGaussian, delta: float, curve: Curve, tight: Tight) -> None:
    """One run of a mechanism that Opacus has no accountant for."""
    if isinstance(leaf, DiscreteGaussian):
        _check_lattice(leaf, tight(leaf, delta), curve(leaf).epsilon(delta), delta)
        return
    theirs = _other_epsilon(leaf, delta)
    ours = tight(leaf, delta)
    if isinstance(leaf, Choice):
        # Ours is the better of two bounds, so it may be below theirs by the Rényi curve.
        theirs = min(theirs, epsilon_by_rdp(leaf, delta))
    _require_close(f"tightly, for {type(leaf).__name__},", ours, theirs, _PLD_TOLERANCE)
    if curve(leaf).epsilon(delta) < theirs * (1 - _PLD_TOLERANCE) - _PLD_TOLERANCE:
        raise AccountantsDisagreeError(
            f"the Rényi bound of {type(leaf).__name__} is below its tight epsilon {theirs:.6g}"
        )


def _check_lattice(leaf: DiscreteGaussian, ours: float, loose: float, delta: float) -> None:
    """Hold discrete noise against its probabilities, point by point, with and without the unit."""
    reach = math.ceil(_WIDTH * leaf.noise_std) + leaf.sensitivity
    places = np.arange(-reach, reach + 1)
    without = np.exp(-((places / leaf.noise_std) ** 2) / 2)
    within = np.exp(-(((places - leaf.sensitivity) / leaf.noise_std) ** 2) / 2)
    total = float(without.sum())

    def delta_at(epsilon: float) -> float:
        return float(np.maximum(0.0, within - math.exp(epsilon) * without).sum()) / total

    margin = _PLD_TOLERANCE * (1 + ours)
    is_needed = ours <= margin or delta_at(ours - margin) >= delta
    if not (delta_at(min(ours + margin, _LARGEST_EPSILON)) <= delta and is_needed):
        raise AccountantsDisagreeError(
            f"epsilon tightly, for DiscreteGaussian, is {ours:.6g} here, which its probabilities"
            " do not confirm"
        )
    if loose < ours * (1 - _PLD_TOLERANCE) - _PLD_TOLERANCE:
        raise AccountantsDisagreeError(
            f"the Rényi bound of DiscreteGaussian is below its tight epsilon {ours:.6g}"
        )


@lru_cache(maxsize=256)
def _other_epsilon(leaf: Other, delta: float) -> float:
    from dp_accounting.pld import privacy_loss_distribution as pld  # noqa: PLC0415

    match leaf:
        case Laplace(noise_multiplier):
            distribution = pld.from_laplace_mechanism(noise_multiplier)
        case DiscreteLaplace(noise_multiplier):
            # Randomised response (Kairouz et al. 2015): delta = (e^pure - e^x) / (1 + e^pure).
            pure = 1 / noise_multiplier
            return max(0.0, pure + math.log1p(-delta * (1 + math.exp(-pure))))
        case ExponentialQuantile(epsilon) | Exponential(epsilon):
            # Dong et al. 2020, lemma 2, solved for epsilon.
            rest = 1 - math.sqrt(-delta * math.expm1(-epsilon))
            return max(0.0, epsilon + 2 * math.log(rest))
        case _:
            assert_never(leaf)
    return float(distribution.get_epsilon_for_delta(delta))
