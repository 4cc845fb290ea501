"""The ways through a network: by hand, traced, compiled, on a device; what their bounds rest on."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sordino_client.training import contributions
from sordino_client.training.arithmetic import SINGLE_DENSE, Performance
from sordino_client.training.clipping import Units, clipped_sum
from sordino_client.training.dense import dense_stack
from sordino_client.training.layers import Layer, is_instantiated
from sordino_client.training.losses import BinaryLogistic, CrossEntropy
from sordino_client.training.network import Network
from sordino_client.training.passes import TracedPass
from sordino_protocols.errors import InputError

NOBODY = np.zeros(0, np.int64)


class Twice(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(5, 5)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.shared(torch.tanh(self.shared(rows)))
        return result


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 3))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (5,)),
    "images": (images, (2, 5, 5)),
}


def make_network(case: str, performance: Performance) -> Network:
    torch.manual_seed(3)
    build, shape = CASES[case]
    return Network(build(), CrossEntropy(), torch.zeros(1, *shape), performance=performance)


def sum_of_70(case: str, network: Network) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((70, *CASES[case][1]), dtype=np.float32)
    units = Units(features, rng.integers(0, 3, 70).astype(np.float32), NOBODY)
    weights = rng.standard_normal(network.dimension)
    return clipped_sum(units, np.arange(70), weights, network, bound=0.5)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.Identity])
def test_a_stack_by_hand_keeps_what_tracing_keeps(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(5, 4), activation(), nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 3))
    )
    stack = dense_stack(module)
    assert stack is not None
    names = ("0", "2.0", "2.1")
    layers = [Layer(name, module.get_submodule(name), {}) for name in names]
    rows, labels = torch.randn(7, 5), torch.arange(7) % 3

    def losses_of(outputs: Tensor) -> Tensor:
        return CrossEntropy().per_record(outputs, labels)

    by_hand = stack.uses(rows, losses_of)
    traced = TracedPass(module, layers).uses(rows, losses_of)
    for found, expected in zip(by_hand, traced, strict=True):
        assert torch.allclose(found[0].inputs, expected[0].inputs, atol=1e-6)
        assert torch.allclose(found[0].gradients, expected[0].gradients, atol=1e-6)


def _hooked() -> nn.Module:
    module = nn.Sequential(nn.Linear(5, 3))
    module[0].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    return module


def _twice() -> nn.Module:
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.Tanh(), layer)


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    "module",
    [
        _hooked(),
        _twice(),
        Twice(),
        Doubled(5, 3),
        nn.Sequential(nn.Linear(5, 3), nn.GELU()),
        nn.Sequential(nn.Tanh(), nn.Linear(5, 3)),
        nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Tanh()),
        nn.Identity(),
    ],
)
def test_only_plain_stacks_go_by_hand(module: nn.Module) -> None:
    assert dense_stack(module) is None


def test_squares_that_vanish_do_not_make_a_norm_too_small() -> None:
    # A square of 2^-70 is below the smallest float32, of 2^63 just below the largest; the
    # gradient's norm is 2^-7 times the square root of 8.
    outer = contributions.Outer(
        torch.full((1, 1), 2.0**63), torch.full((1, 8), 2.0**-70), contributions.Span(0, 8), None
    )
    torch.set_flush_denormal(True)
    try:
        bound = float(outer.squared_norms(SINGLE_DENSE))
    finally:
        torch.set_flush_denormal(False)
    assert bound >= 8 * 2.0**-14


def test_more_places_than_the_bounds_hold_for_are_refused() -> None:
    places = contributions.MOST_PLACES + 1
    gram = contributions.EmbeddingRows(
        torch.zeros(1, places, dtype=torch.int64),
        torch.ones(1, places, 1),
        contributions.Span(0, 1),
    )
    with pytest.raises(InputError, match="at most 4096"):
        gram.squared_norms(SINGLE_DENSE)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 2700), seed=st.integers(0, 99))
def test_sums_by_blocks_round_less_than_is_taken_off_the_bound(rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.rand(rows, 3, generator=generator), torch.rand(rows, 2, generator=generator)
    product = contributions._block_product(left, right, SINGLE_DENSE)
    exact = left.double().T @ right.double()
    terms = SINGLE_DENSE.block_rows + 9
    assert ((product - exact).abs() <= terms * 2.0**-24 * exact).all()


def test_the_form_of_a_layer_does_not_depend_on_the_number_of_units() -> None:
    for places, entering, width in itertools.product((1, 8, 64, 1024), repeat=3):
        choices = {is_instantiated(torch.Size((n, places, entering)), width) for n in (1, 32, 4096)}
        assert len(choices) == 1


@pytest.mark.parametrize("case", CASES)
def test_a_compiled_pass_gives_the_same_sums(case: str) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler")
    eager = make_network(case, Performance(precision="single"))
    compiled = make_network(case, Performance(precision="single", compile=True))
    assert compiled._compiled is not None
    assert compiled.arithmetic.padded_rows(1) == compiled.arithmetic.chunk_rows
    expected = sum_of_70(case, eager)
    assert np.linalg.norm(expected) > 1
    assert np.allclose(sum_of_70(case, compiled), expected, rtol=0, atol=1e-3)


_WITHOUT_A_COMPILER = """
import torch
from torch import nn
from sordino_client.training.arithmetic import SINGLE, Performance
from sordino_client.training.losses import BinaryLogistic, CrossEntropy
from sordino_client.training.network import Network

module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
wanted = Performance(compile=True)
network = Network(module, CrossEntropy(), torch.zeros(1, 1, 5, 5), performance=wanted)
assert network._compiled is None
assert network.arithmetic == SINGLE
"""


def test_without_a_compiler_passes_stay_as_they_are() -> None:
    absent = {"CXX": "no-such-compiler", "PATH": "", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    found = subprocess.run(
        [sys.executable, "-c", _WITHOUT_A_COMPILER],
        env=os.environ | absent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InputError, match='device is "cuda"'):
        Performance(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_a_device_gives_the_same_sums(case: str) -> None:
    there = make_network(case, Performance(precision="double", device="cuda"))
    here = make_network(case, Performance(precision="double"))
    assert np.allclose(sum_of_70(case, here), sum_of_70(case, there), rtol=0, atol=1e-9)


@pytest.mark.parametrize("features", [30, 100])
def test_reduced_products_give_way_before_a_batch_could_tell(features: int) -> None:
    module = nn.Linear(features, 1)
    performance = Performance(precision="single", reduced_products=True)
    network = Network(module, BinaryLogistic(), torch.zeros(1, features), performance=performance)
    arithmetic = network.arithmetic
    largest = arithmetic.chunk_rows + arithmetic.spare_rows
    with network.holding(np.ones(network.dimension)):
        # Whatever was chosen holds in every shape: no batch is the first to be refused.
        for rows in range(arithmetic.row_multiple, largest + 1, arithmetic.row_multiple):
            network.trace(torch.ones(rows, features), torch.zeros(rows))
    in_full = arithmetic.in_full
    assert not in_full.reduced_products
    assert in_full.share < arithmetic.share or not arithmetic.reduced_products
