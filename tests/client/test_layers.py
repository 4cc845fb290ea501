"""Every kind of layer against the naive way: plain back-propagation of one record at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sordino_client.training import contributions
from sordino_client.training.arithmetic import Performance, PrecisionName
from sordino_client.training.clipping import Units, clipped_sum, outputs
from sordino_client.training.losses import BinaryLogistic, CrossEntropy, Loss, SquaredError
from sordino_client.training.network import Network

FloatArray = NDArray[np.float64]
Build = Callable[[], nn.Module]
NOBODY = np.zeros(0, np.int64)
NO_CLIP = 1e9


class Twice(nn.Module):
    """One layer used twice: its two gradients add up before the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = torch.tanh(self.shared(rows))
        result: Tensor = self.head(hidden + torch.tanh(self.shared(hidden)))
        return result


class Words(nn.Module):
    """An embedding, then one layer of `kind` on the sequence."""

    def __init__(self, inner: nn.Module, *, padding: int | None = None) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4, padding_idx=padding)
        self.inner, self.head = inner, nn.Linear(4, 3)

    def forward(self, words: Tensor) -> Tensor:
        result = self.inner(self.words(words))
        sequence: Tensor = result[0] if isinstance(result, tuple) else result
        logits: Tensor = self.head(sequence.mean(dim=1))
        return logits


class Attention(nn.Module):
    """A small transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(4), nn.Linear(4, 12)

    def forward(self, places: Tensor) -> Tensor:
        query, key, value = self.mix(self.norm(places)).unsqueeze(1).chunk(3, dim=3)
        return places + functional.scaled_dot_product_attention(query, key, value)[:, 0]


def images(*layers: nn.Module, flat: int) -> nn.Module:
    return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(flat, 3))


# Name, model, shape of a record, whether a record is words.
CASES: dict[str, tuple[Build, tuple[int, ...], bool]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,), False),
    "without bias": (lambda: nn.Linear(5, 3, bias=False), (5,), False),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Flatten(), nn.Linear(15, 3)),
        (3, 4),
        False,
    ),
    "long sequence": (
        lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(210, 3)),
        (70, 2),
        False,
    ),
    "used twice": (Twice, (6,), False),
    "conv2d": (lambda: images(nn.Conv2d(2, 4, 3, 2, 1), flat=36), (2, 6, 5), False),
    "conv2d same": (
        lambda: images(nn.Conv2d(2, 3, (2, 3), padding="same", bias=False), flat=90),
        (2, 6, 5),
        False,
    ),
    "conv2d dilated": (lambda: images(nn.Conv2d(1, 2, 2, dilation=2), flat=24), (1, 6, 5), False),
    "conv2d pooled": (
        lambda: images(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 2), flat=8),
        (1, 8, 8),
        False,
    ),
    "conv1d": (lambda: images(nn.Conv1d(3, 2, 3, 2, 1), flat=8), (3, 8), False),
    "group norm": (
        lambda: images(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), flat=48),
        (1, 6, 5),
        False,
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)),
        (5,),
        False,
    ),
    "embedding": (lambda: Words(nn.Identity()), (5,), True),
    "embedding with padding": (lambda: Words(nn.Identity(), padding=2), (5,), True),
    "lstm": (lambda: Words(nn.LSTM(4, 4, num_layers=2, batch_first=True)), (5,), True),
    "gru": (lambda: Words(nn.GRU(4, 4, batch_first=True)), (5,), True),
    "attention": (lambda: Words(Attention()), (5,), True),
    "grouped, by Opacus": (lambda: images(nn.Conv2d(2, 4, 3, groups=2), flat=48), (2, 6, 5), False),
}


def make_network(case: str, precision: PrecisionName, loss: Loss | None = None) -> Network:
    torch.manual_seed(3)
    build, shape, is_words = CASES[case]
    example = torch.zeros(1, *shape, dtype=torch.int64 if is_words else torch.float32)
    performance = Performance(precision=precision)
    return Network(build(), loss or CrossEntropy(), example, performance=performance)


def make_units(case: str, records: int, seed: int = 0) -> Units:
    rng = np.random.default_rng(seed)
    _, shape, is_words = CASES[case]
    labels = rng.integers(0, 3, records).astype(np.float32)
    if is_words:
        return Units(rng.integers(0, 7, (records, *shape)), labels, NOBODY)
    return Units(rng.standard_normal((records, *shape)).astype(np.float32), labels, NOBODY)


def make_weights(network: Network, seed: int = 0) -> FloatArray:
    return 0.5 * np.random.default_rng(seed).standard_normal(network.dimension)


def naive_gradients(case: str, units: Units, weights: FloatArray, loss: Loss) -> FloatArray:
    """[records, parameters], float64, the user's own module."""
    module = CASES[case][0]().double()
    parameters = list(module.parameters())
    start = 0
    with torch.no_grad():
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.copy_(torch.from_numpy(weights[start:stop]).view_as(parameter))
            start = stop
    rows = []
    for row in range(len(units.labels)):
        features = torch.from_numpy(units.features[row : row + 1])
        record = features.double() if features.is_floating_point() else features
        label = torch.from_numpy(units.labels[row : row + 1]).double()
        total = loss.per_record(module(record), label).sum()
        gradients = torch.autograd.grad(total, parameters)
        rows.append(torch.cat([g.reshape(-1) for g in gradients]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", ["single", "double"])
def test_sums_are_the_naive_ones(case: str, precision: PrecisionName) -> None:
    network, units = make_network(case, precision), make_units(case, 9)
    weights = make_weights(network)
    expected = naive_gradients(case, units, weights, network.loss)
    fast = clipped_sum(units, np.arange(9), weights, network, bound=NO_CLIP)
    tolerance = 1e-5 if precision == "single" else 1e-11
    assert np.allclose(fast, expected.sum(axis=0), rtol=0, atol=tolerance * np.abs(expected).sum())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", ["single", "double"])
def test_each_unit_is_clipped_by_its_norm(case: str, precision: PrecisionName) -> None:
    network, units = make_network(case, precision), make_units(case, 6)
    weights = make_weights(network)
    exact = naive_gradients(case, units, weights, network.loss)
    for row in range(6):
        bound = float(np.linalg.norm(exact[row])) / 3
        clipped = clipped_sum(units, np.array([row]), weights, network, bound=bound)
        assert bound * 0.97 <= np.linalg.norm(clipped) <= bound * (1 + 1e-12)
        assert np.allclose(clipped, exact[row] / 3, rtol=0, atol=0.03 * bound)


@pytest.mark.parametrize("case", CASES)
def test_one_record_more_moves_the_sum_by_at_most_the_bound(case: str) -> None:
    network, units = make_network(case, "single"), make_units(case, 150)
    weights = 30 * make_weights(network)
    order = np.random.default_rng(1).permutation(150)
    whole = clipped_sum(units, order, weights, network, bound=0.5)
    # The coupling of `arithmetic`: the last one takes the place of the one that goes.
    less = order.copy()[:-1]
    less[70] = order[-1]
    difference = np.linalg.norm(whole - clipped_sum(units, less, weights, network, bound=0.5))
    assert 0 < difference <= 0.5


@pytest.mark.parametrize("case", CASES)
def test_no_records_sum_to_zero(case: str) -> None:
    network = make_network(case, "single")
    units = make_units(case, 3)
    assert not clipped_sum(units, NOBODY, make_weights(network), network, bound=1.0).any()
    assert outputs(make_weights(network), network, units.features[:0]).shape == (0, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("case", [name for name, case in CASES.items() if not case[2]])
def test_a_record_without_a_finite_gradient_contributes_exactly_zero(case: str, bad: float) -> None:
    network, units = make_network(case, "single"), make_units(case, 6)
    weights = make_weights(network)
    expected = clipped_sum(units, np.array([0, 1, 3, 4, 5]), weights, network, bound=0.5)
    units.features[2] = bad
    fast = clipped_sum(units, np.arange(6), weights, network, bound=0.5)
    # A large number may still have a finite gradient: then it is clipped like any other.
    limit = 0.5 if bad == 1e30 else 0.0
    assert np.linalg.norm(fast - expected) <= limit + 1e-5


@pytest.mark.parametrize("case", ["embedding", "lstm"])
def test_a_word_outside_the_table_is_no_error(case: str) -> None:
    network, units = make_network(case, "single"), make_units(case, 3)
    units.features[1] = [-5, 7, 2**40, 0, 1]
    total = clipped_sum(units, np.arange(3), make_weights(network), network, bound=0.5)
    assert np.isfinite(total).all()


@pytest.mark.parametrize("label", [-1.0, 3.0, 0.5, np.nan, np.inf])
def test_a_label_that_is_no_class_contributes_exactly_zero(label: float) -> None:
    network, units = make_network("linear", "single"), make_units("linear", 1)
    units.labels[0] = label
    assert not clipped_sum(units, np.arange(1), make_weights(network), network, bound=1.0).any()


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()])
def test_losses_have_the_gradients_of_one_record_each(loss: Loss) -> None:
    network, units = make_network("linear", "double", loss), make_units("linear", 5)
    if isinstance(loss, SquaredError):
        units = Units(units.features, np.ones((5, 3), np.float32), NOBODY)
    weights = make_weights(network)
    expected = naive_gradients("linear", units, weights, loss).sum(axis=0)
    fast = clipped_sum(units, np.arange(5), weights, network, bound=NO_CLIP)
    assert np.allclose(fast, expected, rtol=1e-10, atol=1e-12)


def test_binary_loss_takes_one_logit() -> None:
    losses = BinaryLogistic().per_record(torch.zeros(4, 1), torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert torch.allclose(losses, torch.full((4,), float(np.log(2))))


@settings(max_examples=30, deadline=None)
@given(records=st.integers(1, 700), seed=st.integers(0, 99))
def test_chunks_and_order_do_not_matter_beyond_rounding(records: int, seed: int) -> None:
    units, weights = make_units("linear", records, seed), make_weights(LINEAR, seed)
    order = np.random.default_rng(seed).permutation(records)
    there = clipped_sum(units, order, weights, LINEAR, bound=0.5)
    back = clipped_sum(units, order[::-1].copy(), weights, LINEAR, bound=0.5)
    assert np.linalg.norm(there - back) <= 1e-6 * records


LINEAR = make_network("linear", "single")


@settings(max_examples=50, deadline=None)
@given(
    places=st.integers(1, 12),
    entering=st.integers(1, 9),
    leaving=st.integers(1, 9),
    cancels=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_both_forms_of_a_sequence_bound_the_same_norm(
    places: int, entering: int, leaving: int, *, cancels: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3, places, entering, generator=generator)
    gradients = torch.randn(3, places, leaving, generator=generator)
    if cancels:
        # Places that annul each other: what is left is rounding, and must not look like nothing.
        inputs[:, :] = inputs[:, :1]
        gradients -= gradients.mean(dim=1, keepdim=True)
    span = contributions.Span(0, entering * leaving)
    exact = torch.bmm(gradients.double().mT, inputs.double())
    squares = exact.square().sum(dim=(1, 2))
    arithmetic = LINEAR.arithmetic
    gram = contributions.GramSequence(inputs, gradients, span)
    formed = contributions.Instantiated(torch.bmm(gradients.mT, inputs), span)
    assert (gram.squared_norms(arithmetic) >= squares).all()
    assert (
        formed.squared_norms(arithmetic) >= formed.gradients.double().square().sum((1, 2))
    ).all()
    scales = contributions.Scales(torch.ones(3, dtype=torch.float64), None)
    totals = [torch.zeros(entering * leaving, dtype=torch.float64) for _ in range(2)]
    gram.add_to(totals[0], scales, arithmetic)
    formed.add_to(totals[1], scales, arithmetic)
    assert torch.allclose(totals[0], exact.sum(dim=0).reshape(-1), rtol=1e-9, atol=1e-9)
    assert torch.allclose(totals[0], totals[1], rtol=1e-4, atol=1e-4)


def test_slow_layers_are_named() -> None:
    assert make_network("grouped, by Opacus", "single").slow_layers == ("0",)
    assert make_network("conv2d", "single").slow_layers == ()


def test_reduced_products_keep_the_bound() -> None:
    build, shape, _ = CASES["linear"]
    network = Network(
        build(),
        CrossEntropy(),
        torch.zeros(1, *shape),
        performance=Performance(precision="single", reduced_products=True),
    )
    units, weights = make_units("linear", 40), 30 * make_weights(network)
    for row in range(40):
        total = clipped_sum(units, np.array([row]), weights, network, bound=0.5)
        assert np.linalg.norm(total) <= 0.5
