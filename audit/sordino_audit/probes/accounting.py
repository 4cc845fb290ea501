"""What is charged: the event of the ledger, against what runs and against other accountants."""

from collections.abc import Callable
from dataclasses import replace

from sordino_audit.probes.found import Found
from sordino_audit.probes.sources import Replayed
from sordino_audit.probes.trainer import RECORDS, Case, Trainer, train
from sordino_client.training.noise import BoolVector
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.cross_check import (
    AccountantsDisagreeError,
    Agreement,
    check_accountants,
)
from sordino_protocols.privacy import Event, PoissonGaussian

DELTA = 1e-5
SAMPLES: tuple[PoissonGaussian, ...] = (
    PoissonGaussian(0.05, 1.1, 40),
    PoissonGaussian(1.0, 6.0, 20),
)
"""Mechanisms on which the accountants are compared: sampled, and not."""


class _Counted(Replayed):
    """Notes at which rates coins are asked for."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.rates: list[float] = []

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        """As replayed, and noted."""
        self.rates.append(probability)
        return super().bernoulli(count, probability=probability)


def charged(trainer: Trainer, case: Case) -> Found:
    """A round tosses its coins once a step at the rate that its event names, no more and no less.

    Only for a trainer that draws its coins from the source that it is given, as the product does.
    """
    # Random views of images are drawn with coins as well.
    case = replace(case, plan=replace(case.plan, augmentation=None))
    event = case.plan.round_event
    source = _Counted()
    train(trainer, case, case.units(RECORDS), source)
    is_same = source.rates == [event.sampling_rate] * event.steps
    is_same &= event.noise_multiplier == case.plan.noise_multiplier
    is_same &= event.unit == case.plan.unit
    is_same &= case.plan.event.steps == case.plan.rounds * event.steps
    return Found(
        is_same,
        f"coins were tossed {len(source.rates)} times at rates {sorted(set(source.rates))} where"
        f" {event.steps} steps at {event.sampling_rate:g} are accounted",
    )


def accountants(check: Callable[[Event, float], Agreement] = check_accountants) -> Found:
    """The accountants agree on what mechanisms cost, and more noise costs less.

    Args:
        check: compares them for an event and a delta, as `cross_check` does.
    """
    prices = []
    for event in SAMPLES:
        try:
            prices.append(check(event, DELTA).epsilon_pld)
        except AccountantsDisagreeError as error:
            return Found(is_passed=False, message=str(error))
    noisier = epsilon_by_pld(PoissonGaussian(0.05, 2.2, 40), DELTA)
    is_falling = noisier < epsilon_by_pld(SAMPLES[0], DELTA)
    shown = ", ".join(f"{price:.4f}" for price in prices)
    return Found(is_falling, f"tight and Rényi prices agree with a second library: epsilon {shown}")
