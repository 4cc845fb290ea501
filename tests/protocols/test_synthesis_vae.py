import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statistical import assert_rate

from sordino_protocols.privacy import DiscreteGaussian, Gaussian, PoissonGaussian, leaves
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape
from sordino_protocols.synthesis.specs import VaeSpec
from sordino_protocols.synthesis.vae import Autoencoders, AutoencoderSizes, sizes_of

FLAT = DomainShape(columns=(SingleShape(groups=(1, 1)), SingleShape(groups=(2, 1))))


@given(noise=st.floats(0.3, 50), clusters=st.sampled_from([1, 2, 8]))
def test_each_part_has_its_share(noise: float, clusters: int) -> None:
    spec = VaeSpec(kind="vae", clusters=clusters, cluster_share=0.2, sampling_rate=0.1, steps=90)
    squares = {"one_ways": 0.0, "clusters": 0.0, "training": 0.0}
    for leaf, count in leaves(spec.event(FLAT, noise, "record")):
        match leaf:
            case DiscreteGaussian(noise_std, 1, _):
                squares["one_ways"] += count / noise_std**2
            case Gaussian(noise_multiplier, _):
                squares["clusters"] += count / noise_multiplier**2
            case PoissonGaussian(rate, noise_multiplier, steps, _):
                squares["training"] += steps * (rate / noise_multiplier) ** 2
    whole = sum(squares.values())
    found = 0.2 if clusters > 1 else 0.0
    assert squares["one_ways"] == pytest.approx(0.1 * whole)
    assert squares["clusters"] == pytest.approx(found * whole)
    assert squares["training"] == pytest.approx((0.9 - found) * whole)


def constant(
    sizes: AutoencoderSizes, cells: tuple[int, int]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Weights of a decoder that says the same whatever the code is."""
    weights = np.zeros(sizes.parameter_count)
    biases = weights[-sum(sizes.cells) :]
    biases[:] = -50.0
    biases[[cells[0], sizes.cells[0] + cells[1]]] = 0.0
    return weights


def test_each_cluster_has_as_many_records_as_units() -> None:
    sizes = sizes_of(FLAT, hidden=2, latent=1)
    assert sizes.cells == (2, 2)
    made = Autoencoders(
        sizes,
        (constant(sizes, (0, 0)), constant(sizes, (1, 0)), constant(sizes, (1, 1))),
        np.array([300.0, 100.0, 0.0]),
        (np.array([1.0, 1.0]), np.array([30.0, 10.0, 5.0])),
        FLAT,
    ).sample(4_000, rng=np.random.default_rng(1))
    assert_rate(int((made[:, 0] == 0).sum()), 4_000, 0.75)
    # The cluster that nobody seems to be in is not drawn; fine cells are as measured.
    assert made[:, 1].max() == 1
    assert_rate(int((made[:, 1] == 0).sum()), 4_000, 0.75)
    # In random order, not cluster by cluster.
    assert_rate(int((made[:1_000, 0] == 0).sum()), 1_000, 0.75)
