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
from sordino_client.synthesis.generators.training import averaged_weights, training_plan
from sordino_client.training.arithmetic import Performance
from sordino_client.training.losses import Likelihood
from sordino_client.training.network import Network
from sordino_client.training.noise import Noise
from sordino_client.training.units import Units
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

_SMALLEST_ROOT = 1e-3
_LARGEST_LOG_STD = 4.0
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
    units_of_rows = Units(rows, np.zeros(len(rows), np.float32), np.zeros(0, np.int64))
    codes = rows[:, -sizes.latent :]

    def with_new_codes() -> Units:
        codes[...] = rng.standard_normal(codes.shape, dtype=np.float32)
        return units_of_rows

    training = training_plan(plan, spec, loss="likelihood")
    # Made of a noisy count: the size of a Poisson sample depends on the records.
    batch = plan.sampling_rate * max(units, 1 / plan.sampling_rate)
    return averaged_weights(
        with_new_codes,
        weights,
        network,
        training,
        batch=batch,
        # A gradient that drowns in noise must not be blown up to full steps of noise.
        stability=max(_SMALLEST_ROOT, training.noise_std / batch),
        noise=noise,
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
