"""The zoo: faults that shipped in real DP systems, each planted in the product's own code.

A fault replaces a function of the real training step while a round runs; nothing in the product
knows of it. `TRAINERS` take the place of the product's trainer, `zoo_sites` has faults of sites and
servers, `opacus_loop` a rival's loop as it is sold; `zoo_runs` lets trainers run for their lanes.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol
from unittest.mock import patch

import numpy as np
import torch
from seeded_noise import SeededNoise
from torch import Tensor

from sordino_audit.probes.trainer import Asked, Trainer, engine
from sordino_client.training import clipping, steps
from sordino_client.training.clipping import clipped_sum
from sordino_client.training.network import Network
from sordino_client.training.noise import FloatVector, Noise, noisy_on_grid
from sordino_client.training.rules import Clip, clip
from sordino_client.training.sampling import Indices, poisson_sample
from sordino_client.training.steps import RoundResult, train_round
from sordino_client.training.tally import Tally
from sordino_client.training.units import ALL_AS_THEY_ARE, Draw, Units
from sordino_protocols.clipping import FLAT, ClippingRule, PerLayerClipping
from sordino_protocols.models import ModelSpec

# --- parts of a step


class Sampler(Protocol):
    """As `poisson_sample`."""

    def __call__(self, unit_count: int, *, sampling_rate: float, noise: Noise) -> Indices: ...


class Noiser(Protocol):
    """As `noisy_on_grid`."""

    def __call__(
        self, exact: FloatVector, *, noise: Noise, noise_std: float, step: float
    ) -> FloatVector: ...


@contextmanager
def planted(
    *,
    sampler: Sampler = poisson_sample,
    summer: Callable[..., FloatVector] = clipped_sum,
    noiser: Noiser = noisy_on_grid,
    clipper: Callable[..., Clip] = clip,
) -> Iterator[None]:
    """The real training step, with some of its parts replaced."""
    with (
        patch.multiple(steps, poisson_sample=sampler, clipped_sum=summer, noisy_on_grid=noiser),
        patch.object(clipping, "clip", clipper),
    ):
        yield


def scaled_noise(factor: Callable[[int], float]) -> Trainer:
    """Noise whose standard deviation is multiplied with a function of the batch's size."""

    def trainer(asked: Asked) -> RoundResult:
        sizes: list[int] = []

        def sampler(unit_count: int, *, sampling_rate: float, noise: Noise) -> Indices:
            batch = poisson_sample(unit_count, sampling_rate=sampling_rate, noise=noise)
            sizes.append(len(batch))
            return batch

        def noiser(
            exact: FloatVector, *, noise: Noise, noise_std: float, step: float
        ) -> FloatVector:
            std = noise_std * factor(sizes[-1])
            return noisy_on_grid(exact, noise=noise, noise_std=std, step=step)

        with planted(sampler=sampler, noiser=noiser):
            return engine(asked)

    return trainer


def changed_sum(
    *, loosened: float, after: Callable[[FloatVector, int, float], FloatVector]
) -> Trainer:
    """Sums of gradients that were clipped to a multiple of the bound, and then changed.

    Args:
        loosened: the multiple.
        after: from the sum, the size of the batch and the bound to what gets the noise.
    """

    def summer(
        units: Units,
        batch: Indices,
        weights: FloatVector,
        model: ModelSpec | Network,
        *,
        bound: float,
        rule: ClippingRule = FLAT,
        drawn: Draw = ALL_AS_THEY_ARE,
        lane_groups: int = 1,
        tally: Tally | None = None,
    ) -> FloatVector:
        loose = clipped_sum(
            units,
            batch,
            weights,
            model,
            bound=loosened * bound,
            rule=rule,
            drawn=drawn,
            lane_groups=lane_groups,
            tally=tally,
        )
        return after(loose, len(batch), bound)

    def trainer(asked: Asked) -> RoundResult:
        with planted(summer=summer):
            return engine(asked)

    return trainer


def _clip_the_mean(total: FloatVector, count: int, bound: float) -> FloatVector:
    """What a loop does that clips after it averaged: each unit may bring as much as all."""
    mean = total / max(count, 1)
    shorter = min(1.0, bound / max(float(np.linalg.norm(mean)), 1e-300))
    return mean * shorter * count


def _as_it_is(total: FloatVector, _count: int, _bound: float) -> FloatVector:
    return total


def whole_norm_each_layer(asked: Asked) -> RoundResult:
    """Clipped layer by layer, each layer may have the whole norm."""

    def clipper(squared_norms: Tensor, rule: ClippingRule, *, bound: float) -> Clip:
        is_by_layer = isinstance(rule, PerLayerClipping)
        factor = math.sqrt(len(squared_norms)) if is_by_layer else 1.0
        return clip(squared_norms, rule, bound=factor * bound)

    with planted(clipper=clipper):
        return engine(asked)


def last_layer_not_normed(asked: Asked) -> RoundResult:
    """The norm that a unit is clipped by leaves the last layer out."""

    def clipper(squared_norms: Tensor, rule: ClippingRule, *, bound: float) -> Clip:
        counted = squared_norms.clone()
        counted[-1] = torch.zeros(())
        return clip(counted, rule, bound=bound)

    with planted(clipper=clipper):
        return engine(asked)


def last_layer_without_noise(asked: Asked) -> RoundResult:
    """The last parameter group gets no noise: the layer, and the lanes' coordinates in it."""

    def noiser(exact: FloatVector, *, noise: Noise, noise_std: float, step: float) -> FloatVector:
        noisy = noisy_on_grid(exact, noise=noise, noise_std=noise_std, step=step)
        for span in _last_layer(asked, len(exact)):
            noisy[span] = np.rint(exact[span] / step) * step
        return noisy

    with planted(noiser=noiser):
        return engine(asked)


def _last_layer(asked: Asked, length: int) -> list[slice]:
    network = clipping.network_for(
        asked.model,
        asked.units.features.shape[1],
        asked.plan.loss,
        performance=asked.performance,
    )
    spans = [slice(span.start, span.stop) for span in network.layers[-1].spans.values()]
    return [*spans, slice(length - asked.plan.lanes, length)]


def fixed_batches(asked: Asked) -> RoundResult:
    """Batches of one size, as shuffling gives them, accounted as Poisson samples."""

    def sampler(unit_count: int, *, sampling_rate: float, noise: Noise) -> Indices:
        del noise
        order = np.random.default_rng().permutation(unit_count)
        return np.sort(order[: round(unit_count * sampling_rate)])

    with planted(sampler=sampler):
        return engine(asked)


def divided_by_the_data_set(asked: Asked) -> RoundResult:
    """Steps are divided by the sampling rate times the number of units that there are."""
    return train_round(
        asked.units,
        asked.weights,
        asked.model,
        asked.plan,
        expected_batch_size=max(asked.plan.sampling_rate * len(asked.units), 1.0),
        noise=asked.noise,
        performance=asked.performance,
    )


# --- fields


@dataclass(frozen=True, slots=True)
class _Talkative(RoundResult):
    loss: float


def returns_the_loss(asked: Asked) -> RoundResult:
    """Beside the release, a number about the records."""
    made = engine(asked)
    loss = float(np.nan_to_num(asked.units.features).sum())
    return _Talkative(made.vector, made.is_private, loss)


def returns_the_count(asked: Asked) -> RoundResult:
    """Behind the release, how many units there are."""
    made = engine(asked)
    return RoundResult(np.append(made.vector, float(len(asked.units))), made.is_private)


# --- seeds


class Forged(SeededNoise):
    """Repeats itself from its seed, and says that it is secure."""

    @property
    def is_secure(self) -> bool:
        return True


def seeded_each_round(asked: Asked) -> RoundResult:
    """Every round begins with the same seed."""
    return engine(replace(asked, noise=Forged(7)) if asked.noise.is_secure else asked)


# --- the zoo

TRAINERS: Mapping[str, Trainer] = {
    "noise divided by the batch size": scaled_noise(lambda size: 1 / max(size, 1)),
    "sigma over the square root of two": scaled_noise(lambda _: 1 / math.sqrt(2)),
    "sigma a tenth too small": scaled_noise(lambda _: 0.9),
    "a seed used in every round": seeded_each_round,
    "the averaged gradient is clipped": changed_sum(loosened=1e3, after=_clip_the_mean),
    "each layer clipped to the whole norm": whole_norm_each_layer,
    "the last layer left out of the norm": last_layer_not_normed,
    "no noise on the last layer": last_layer_without_noise,
    "fixed batches accounted as Poisson": fixed_batches,
    "no noise on an empty batch": scaled_noise(lambda size: float(size > 0)),
    "the loss returned": returns_the_loss,
    "the count returned": returns_the_count,
    "a scale that depends on the data set's size": divided_by_the_data_set,
    "a sensitivity that is not the clipping norm": changed_sum(loosened=2.0, after=_as_it_is),
}
"""In place of the product's trainer."""
