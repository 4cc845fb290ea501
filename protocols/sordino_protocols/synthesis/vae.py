"""Variational autoencoders of clusters of records (Acs et al. 2018): what is paid and sampled.

Records are clustered with differential privacy, and each cluster gets an autoencoder of its own. A
unit is in one cluster alone, so all of them together cost what one does. As in the other baselines
the networks know coarse cells, and the fine one within comes from the noisy one-way marginal.

What looks at records is the site's: `sordino_client.synthesis.generators.vae`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonGaussian,
    PrivacyUnit,
    SelfComposed,
)
from sordino_protocols.synthesis.positions import drawn, fine_cells, probabilities, singles
from sordino_protocols.synthesis.shapes import DomainShape

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]

CLUSTERINGS = 4
"""How often records are assigned to clusters and summed up."""

_ONE_WAY_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class AutoencoderPlan:
    """Shares of the privacy, as mu squared: one-way marginals, clusters, and the rest to training.

    What training costs is taken to be `sampling_rate^2 * steps / noise_multiplier^2`, which it is
    for much noise (Dong, Roth & Su 2022, sec. 5), to find the noise of the rest. What all cost
    together is up to the accountant.

    Attributes:
        columns: how many there are.
        clusters: each with an autoencoder of its own.
        cluster_share: of finding the clusters, where there are several.
        sampling_rate: probability with which a unit of a cluster enters a step's batch.
        steps: of each autoencoder.
        noise_multiplier: of DP-SGD.
        unit: whom the guarantee is about.
    """

    columns: int
    clusters: int
    cluster_share: float
    sampling_rate: float
    steps: int
    noise_multiplier: float
    unit: PrivacyUnit

    @property
    def one_way_std(self) -> float:
        """Sigma of the noise on each count of a one-way marginal."""
        return math.sqrt(self.columns / (_ONE_WAY_SHARE * self._precision))

    @property
    def cluster_noise_multiplier(self) -> float:
        """Of one clustering: noise over the L2 sensitivity of a cluster's count and sum."""
        return math.sqrt(CLUSTERINGS / (self.cluster_share * self._precision))

    @property
    def event(self) -> Event:
        """What the whole costs."""
        one_ways = DiscreteGaussian(self.one_way_std, 1, self.unit)
        parts: list[Event] = [
            SelfComposed(one_ways, self.columns),
            PoissonGaussian(self.sampling_rate, self.noise_multiplier, self.steps, self.unit),
        ]
        if self.clusters > 1:
            clustering = Gaussian(self.cluster_noise_multiplier, self.unit)
            parts.append(SelfComposed(clustering, CLUSTERINGS))
        return Composed(tuple(parts))

    @property
    def _precision(self) -> float:
        """About the whole's mu squared."""
        training = (self.sampling_rate / self.noise_multiplier) ** 2 * self.steps
        others = _ONE_WAY_SHARE + (self.cluster_share if self.clusters > 1 else 0.0)
        return training / (1 - others)


@dataclass(frozen=True, slots=True)
class AutoencoderSizes:
    """Of one autoencoder: a flat vector holds its four dense layers, weights before biases.

    The layers take cells to a hidden layer, that to the code's means and logarithms of standard
    deviations, the code to a hidden layer, and that to logits of cells.

    Attributes:
        cells: coarse cells of each column.
        hidden: width of both hidden layers.
        latent: width of the code.
    """

    cells: tuple[int, ...]
    hidden: int
    latent: int

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Outputs and inputs of each dense layer, in the order of the flat vector."""
        cells = sum(self.cells)
        encoder = ((self.hidden, cells), (2 * self.latent, self.hidden))
        return (*encoder, (self.hidden, self.latent), (cells, self.hidden))

    @property
    def parameter_count(self) -> int:
        """Length of the flat vector."""
        return sum(outputs * (inputs + 1) for outputs, inputs in self.layers)


@dataclass(frozen=True, slots=True)
class Autoencoders:
    """Trained autoencoders, one a cluster.

    Attributes:
        sizes: of each.
        weights: the flat vector of each.
        units: how many units each cluster seems to have.
        one_ways: noisy fine counts of each column, for the fine cells.
        flat: the shape, without sets.
    """

    sizes: AutoencoderSizes
    weights: tuple[Numbers, ...]
    units: Numbers
    one_ways: Sequence[Numbers]
    flat: DomainShape

    def sample(self, rows: int, *, rng: np.random.Generator) -> Cells:
        """Independent records of fine cells, [rows, columns], in random order."""
        shares = rng.multinomial(rows, probabilities(self.units))
        coarse = np.concatenate(
            [
                decoded(weights, self.sizes, count, rng=rng)
                for weights, count in zip(self.weights, shares, strict=True)
            ]
        )
        return fine_cells(rng.permutation(coarse), self.one_ways, self.flat, rng=rng)


def decoded(
    weights: Numbers, sizes: AutoencoderSizes, rows: int, *, rng: np.random.Generator
) -> Cells:
    """Coarse cells of records whose codes are standard normal, [rows, columns]."""
    *_, (hidden, hidden_bias), (output, output_bias) = _layers(weights, sizes)
    codes = rng.standard_normal((rows, sizes.latent))
    logits = np.tanh(codes @ hidden.T + hidden_bias) @ output.T + output_bias
    columns = np.split(logits, np.cumsum(sizes.cells)[:-1], axis=1)
    return np.stack([drawn(_softmax(column), rng=rng) for column in columns], axis=1)


def sizes_of(flat: DomainShape, *, hidden: int, latent: int) -> AutoencoderSizes:
    """Of an autoencoder of these columns."""
    return AutoencoderSizes(tuple(column.coarse for column in singles(flat)), hidden, latent)


def _layers(weights: Numbers, sizes: AutoencoderSizes) -> list[tuple[Numbers, Numbers]]:
    """Weight [outputs, inputs] and bias [outputs] of each layer."""
    lengths = [length for outputs, inputs in sizes.layers for length in (outputs * inputs, outputs)]
    ends = itertools.accumulate(lengths)
    parts = [weights[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return [
        (weight.reshape(outputs, inputs), bias)
        for (outputs, inputs), weight, bias in zip(
            sizes.layers, parts[::2], parts[1::2], strict=True
        )
    ]


def _softmax(logits: Numbers) -> Numbers:
    powers: Numbers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
