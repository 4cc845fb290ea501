import numpy as np
import pytest
import torch
from seeded_noise import SeededNoise
from small_tables import SHAPE, CountedNoise, pair_distance, small_table
from statistical import assert_rate

from sordino_client.synthesis.generators.vae import (
    LowerBound,
    first_weights,
    fit_autoencoders,
    one_hot,
)
from sordino_client.training.arithmetic import Performance
from sordino_client.training.losses import Likelihood
from sordino_client.training.network import Network
from sordino_protocols.privacy import DiscreteGaussian, Gaussian, PoissonGaussian, leaves
from sordino_protocols.synthesis.positions import coarse_cells, flattened
from sordino_protocols.synthesis.specs import VaeSpec
from sordino_protocols.synthesis.vae import CLUSTERINGS, AutoencoderSizes, decoded, sizes_of

FLAT = flattened(SHAPE)
CELLS = small_table(3_000)
SPEC = VaeSpec(
    kind="vae",
    hidden=16,
    latent=2,
    clusters=2,
    sampling_rate=0.1,
    steps=80,
    learning_rate=0.05,
    clipping_norm=3.0,
)
SIZES = AutoencoderSizes((3, 2), hidden=4, latent=2)


def weights_of(sizes: AutoencoderSizes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    coarse = [np.ones(count) for count in sizes.cells]
    return first_weights(sizes, coarse, rng=np.random.default_rng(1))


def test_the_flat_vector_is_the_modules() -> None:
    module, weights = LowerBound(SIZES).double(), weights_of(SIZES)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights), module.parameters())
    assert len(weights) == SIZES.parameter_count
    # What is sampled follows the decoder of the module, code by code.
    codes = np.random.default_rng(2).standard_normal((20_000, 2))
    hidden = module.decoder(torch.from_numpy(codes)).tanh()
    chances = module.output(hidden)[:, :3].softmax(dim=1).mean(dim=0).detach().numpy()
    cells = decoded(weights, SIZES, 20_000, rng=np.random.default_rng(2))
    for cell, chance in enumerate(chances):
        assert_rate(int((cells[:, 0] == cell).sum()), 20_000, float(chance))


def test_the_bound_is_below_the_likelihood_of_the_record() -> None:
    module, weights = LowerBound(SIZES).double(), weights_of(SIZES)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights), module.parameters())
    draws = torch.from_numpy(np.random.default_rng(3).standard_normal((4_000, 2)))
    record = torch.from_numpy(one_hot(np.array([[2, 1]], dtype=np.int32), SIZES)[:, :5]).double()
    rows = torch.cat([record.expand(4_000, 5), draws], dim=1)
    bound = float(module(rows).mean().detach())
    logits = module.output(module.decoder(draws).tanh()).split([3, 2], dim=1)
    likelihood = float(
        (logits[0].softmax(1)[:, 2] * logits[1].softmax(1)[:, 1]).mean().log().detach()
    )
    assert bound < likelihood


def test_the_engine_takes_the_bound_for_a_model_of_single_records() -> None:
    network = Network(LowerBound(SIZES), Likelihood(), torch.zeros(1, 7))
    assert network.dimension == SIZES.parameter_count
    assert network.slow_layers == ()


def test_one_hot_rows_hold_the_cells() -> None:
    rows = one_hot(np.array([[2, 0], [0, 1]], dtype=np.int32), SIZES)
    assert rows.tolist() == [[0, 0, 1, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0]]


def test_first_biases_say_what_was_measured() -> None:
    coarse = [np.array([30.0, 10.0, -2.0]), np.array([5.0, 15.0])]
    biases = first_weights(SIZES, coarse, rng=np.random.default_rng(1))[-5:]
    assert np.exp(biases[:2]) == pytest.approx([0.75, 0.25])
    assert np.exp(biases[2]) == pytest.approx(1e-4)
    assert np.exp(biases[3:]) == pytest.approx([0.25, 0.75])


def test_training_teaches_what_goes_together() -> None:
    plan = SPEC.plan(SHAPE, 0.05, "record")
    fitted = fit_autoencoders(
        CELLS,
        plan,
        SPEC,
        flat=FLAT,
        noise=SeededNoise(1),
        performance=Performance(),
        rng=np.random.default_rng(2),
    )
    made = fitted.sampler.sample(6_000, rng=np.random.default_rng(3))
    assert made.shape == (6_000, FLAT.position_count)
    coarse, real = coarse_cells(made, FLAT), coarse_cells(CELLS, FLAT)
    apart = np.random.default_rng(4).permuted(real, axis=0)
    assert pair_distance(real, coarse, (0, 1), (3, 3)) < 0.15
    assert pair_distance(real, apart, (0, 1), (3, 3)) > 0.3
    assert fitted.units == pytest.approx(3_000, abs=30)


def test_every_release_is_in_the_event() -> None:
    plan, noise = SPEC.plan(SHAPE, 2.0, "entity"), CountedNoise(5)
    parts = {type(leaf): (leaf, count) for leaf, count in leaves(plan.event)}
    assert parts[DiscreteGaussian] == (
        DiscreteGaussian(plan.one_way_std, 1, "entity"),
        FLAT.position_count,
    )
    assert parts[Gaussian] == (Gaussian(plan.cluster_noise_multiplier, "entity"), CLUSTERINGS)
    # Each unit is in one cluster, so all of them together cost what one does.
    assert parts[PoissonGaussian] == (PoissonGaussian(0.1, 2.0, 80, "entity"), 1)
    fit_autoencoders(
        CELLS[:50],
        plan,
        SPEC,
        flat=FLAT,
        noise=noise,
        performance=Performance(),
        rng=np.random.default_rng(2),
    )
    assert set(noise.drawn) == {plan.one_way_std}


def test_one_cluster_need_not_be_found() -> None:
    single = SPEC.model_copy(update={"clusters": 1})
    event = single.plan(SHAPE, 2.0, "record").event
    assert not any(isinstance(leaf, Gaussian) for leaf, _ in leaves(event))


@pytest.mark.parametrize("clusters", [1, 3])
def test_no_records_are_no_error(clusters: int) -> None:
    spec = SPEC.model_copy(update={"clusters": clusters, "steps": 2})
    fitted = fit_autoencoders(
        CELLS[:0],
        spec.plan(SHAPE, 1.0, "record"),
        spec,
        flat=FLAT,
        noise=SeededNoise(1),
        performance=Performance(),
        rng=np.random.default_rng(2),
    )
    made = fitted.sampler.sample(20, rng=np.random.default_rng(3))
    assert made.shape == (20, FLAT.position_count)
    assert sizes_of(FLAT, hidden=1, latent=1).cells == (3, 3, 2, 2, 2, 2, 2)
