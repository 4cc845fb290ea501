"""Autoencoders of clusters of records (Acs et al. 2018), trained by the engine that trains models.

A baseline, which loses against the default: tables are more than twice as far off, and it takes
more than ten times as long, as docs/synthesis.md says. More clusters lose more: each has fewer
records to learn from, under as much noise.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sordino_client.synthesis.generators.clusters import Clusters, find_clusters
from sordino_client.synthesis.generators.columns import noisy_columns
from sordino_client.synthesis.generators.fitted import Fitted
from sordino_client.training.arithmetic import Performance
from sordino_client.training.losses import Likelihood
from sordino_client.training.network import Network
from sordino_client.training.noise import Noise
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.adam import adam_start, adam_step
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.synthesis.positions import (
    coarse_cells,
    coarse_counts,
    estimated_units,
    probabilities,
)
from sordino_protocols.synthesis.shapes import DomainShape
from sordino_protocols.synthesis.specs import VaeSpec
from sordino_protocols.synthesis.vae import (
    CLUSTERINGS,
    AutoencoderPlan,
    Autoencoders,
    AutoencoderSizes,
    sizes_of,
)

Cells = npt.NDArray[np.int32]
Features = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]

_BETA1, _BETA2 = 0.9, 0.99
_SMALLEST_ROOT = 1e-3
_LARGEST_LOG_STD = 4.0
# The weights of the second half of the steps are averaged: that cancels noise for free.
_AVERAGED_FROM = 0.5
# A bias starts no lower than as for this share of the units.
_RAREST = 1e-4


def fit_autoencoders(
    cells: Cells,
    plan: AutoencoderPlan,
    spec: VaeSpec,
    *,
    flat: DomainShape,
    noise: Noise,
    performance: Performance,
    rng: np.random.Generator,
) -> Fitted:
    """An autoencoder a cluster: costs `plan.event`.

    Args:
        cells: [units, columns], of fine cells; a secret.
        plan: what is paid for.
        spec: widths, clipping norm and learning rate.
        flat: the shape of the cells, without sets.
        noise: source of the randomness that privacy rests on.
        performance: how fast to train; touches no privacy.
        rng: of the first weights and the codes.
    """
    one_ways = noisy_columns(cells, flat, noise_std=plan.one_way_std, noise=noise)
    units = estimated_units(one_ways)
    sizes = sizes_of(flat, hidden=spec.hidden, latent=spec.latent)
    coarse = coarse_cells(cells, flat)
    found = _clusters(coarse, plan, sizes, units=units, noise=noise)
    network = _network(sizes, performance)
    start = first_weights(sizes, coarse_counts(one_ways, flat), rng=rng)
    # Each draws as many codes as it has rows, a secret: streams of their own leave `rng` alone.
    streams = rng.spawn(plan.clusters)
    trained = tuple(
        _trained(
            one_hot(coarse[found.members == cluster], sizes),
            start,
            network,
            plan,
            spec,
            sizes=sizes,
            units=float(found.units[cluster]),
            noise=noise,
            rng=stream,
        )
        for cluster, stream in enumerate(streams)
    )
    return Fitted(Autoencoders(sizes, trained, found.units, one_ways, flat), units)


class LowerBound(nn.Module):
    """A lower bound on a record's log-likelihood (Kingma & Welling 2014, eq. 10), as its output.

    A row holds the record's coarse cells, one-hot, and then the normal numbers that its code is
    drawn with: so the pass itself draws nothing, and a row's gradient is a function of the row.
    """

    def __init__(self, sizes: AutoencoderSizes) -> None:
        super().__init__()
        self._cells = list(sizes.cells)
        self.encoder, self.code, self.decoder, self.output = (
            nn.Linear(inputs, outputs) for outputs, inputs in sizes.layers
        )

    def forward(self, rows: Tensor) -> Tensor:
        """[records, 1] for [records, cells and width of the code]."""
        cells, drawn = rows[:, : sum(self._cells)], rows[:, sum(self._cells) :]
        mean, log_std = self.code(self.encoder(cells).tanh()).chunk(2, dim=1)
        log_std = _LARGEST_LOG_STD * torch.tanh(log_std / _LARGEST_LOG_STD)
        logits = self.output(self.decoder(mean + log_std.exp() * drawn).tanh())
        columns = [column.log_softmax(dim=1) for column in torch.split(logits, self._cells, 1)]
        likelihood = (cells * torch.cat(columns, dim=1)).sum(dim=1, keepdim=True)
        divergence = (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std) / 2
        bound: Tensor = likelihood - divergence.sum(dim=1, keepdim=True)
        return bound


def one_hot(coarse: Cells, sizes: AutoencoderSizes) -> Features:
    """Rows for the network, [records, cells and width of the code], the latter not drawn yet."""
    cells = sum(sizes.cells)
    rows = np.zeros((len(coarse), cells + sizes.latent), dtype=np.float32)
    first = np.cumsum([0, *sizes.cells])[:-1]
    rows[np.arange(len(coarse))[:, None], coarse + first] = 1.0
    return rows


def _trained(
    rows: Features,
    weights: Numbers,
    network: Network,
    plan: AutoencoderPlan,
    spec: VaeSpec,
    *,
    sizes: AutoencoderSizes,
    units: float,
    noise: Noise,
    rng: np.random.Generator,
) -> Numbers:
    """The mean of the last weights of DP-SGD on one cluster's rows."""
    labels, no_lanes = np.zeros(len(rows), np.float32), np.zeros(0, np.int64)
    training = _training_plan(plan, spec)
    # A public constant: the size of a Poisson sample depends on the records.
    batch = plan.sampling_rate * max(units, 1 / plan.sampling_rate)
    noise_std = training.noise_std / batch
    state, averaged = adam_start(len(weights)), np.zeros_like(weights)
    first, codes = int(_AVERAGED_FROM * plan.steps), rows[:, -sizes.latent :]
    for step in range(plan.steps):
        codes[...] = rng.standard_normal(codes.shape, dtype=np.float32)
        released = train_round(
            Units(rows, labels, no_lanes),
            weights,
            network,
            training,
            expected_batch_size=batch,
            noise=noise,
        )
        direction, state = adam_step(
            state,
            released.vector / batch,
            noise_variance=noise_std**2,
            beta1=_BETA1,
            beta2=_BETA2,
            # A gradient that drowns in noise must not be blown up to full steps of noise.
            stability=max(_SMALLEST_ROOT, noise_std),
        )
        weights = weights - spec.learning_rate * direction
        if step >= first:
            averaged += weights / (plan.steps - first)
    return averaged


def _training_plan(plan: AutoencoderPlan, spec: VaeSpec) -> TrainingPlan:
    # Rows are units already, whoever they are: one of each.
    return TrainingPlan(
        sampling_rate=plan.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        clipping_norm=spec.clipping_norm,
        rounds=plan.steps,
        local_steps=1,
        local_learning_rate=spec.learning_rate,
        lanes=0,
    )


def first_weights(
    sizes: AutoencoderSizes, coarse: Sequence[Numbers], *, rng: np.random.Generator
) -> Numbers:
    """Random weights, the narrower the more inputs a layer has; last come biases that are not.

    They are logits of the noisy marginals: what the decoder says of every column before it learns.

    Args:
        sizes: of the autoencoder.
        coarse: noisy coarse counts of each column.
        rng: of the others.
    """
    drawn = [
        rng.uniform(-1, 1, size=outputs * (inputs + 1)) / np.sqrt(inputs)
        for outputs, inputs in sizes.layers
    ]
    logits = [np.log(probabilities(counts).clip(min=_RAREST)) for counts in coarse]
    drawn[-1][-sum(sizes.cells) :] = np.concatenate(logits)
    return np.concatenate(drawn)


def _network(sizes: AutoencoderSizes, performance: Performance) -> Network:
    example = torch.zeros(1, sum(sizes.cells) + sizes.latent)
    return Network(LowerBound(sizes), Likelihood(), example, performance=performance)


def _clusters(
    coarse: Cells, plan: AutoencoderPlan, sizes: AutoencoderSizes, *, units: float, noise: Noise
) -> Clusters:
    if plan.clusters == 1:
        return Clusters(np.zeros(len(coarse), np.int64), np.array([units]))
    return find_clusters(
        coarse,
        sizes.cells,
        clusters=plan.clusters,
        rounds=CLUSTERINGS,
        noise_multiplier=plan.cluster_noise_multiplier,
        noise=noise,
    )
