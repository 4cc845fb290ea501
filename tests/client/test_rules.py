"""Each rule, on made-up norms and on a whole sum: nobody brings more than the bound."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_kinds import KINDS, FloatArray, naive_gradients

from sordino_client.training import clipping, rules
from sordino_client.training.arithmetic import Performance, PrecisionName
from sordino_client.training.clipping import Units, clipped_sum, network_for
from sordino_client.training.losses import CrossEntropy
from sordino_client.training.network import Network
from sordino_client.training.rules import amplification, clip, threshold_sum
from sordino_protocols.clipping import (
    FLAT,
    AdaptiveClipping,
    ClippingRule,
    FlatClipping,
    NormalizedClipping,
    PerLayerClipping,
)

NOBODY = np.zeros(0, np.int64)
PER_LAYER = PerLayerClipping(kind="per_layer")
NORMALIZED = NormalizedClipping(kind="normalized")
ADAPTIVE = AdaptiveClipping(kind="adaptive")
RULES: dict[str, ClippingRule] = {
    "flat": FLAT,
    "per layer": PER_LAYER,
    "normalized": NORMALIZED,
    "adaptive": ADAPTIVE,
    "adaptive, high quantile": AdaptiveClipping(kind="adaptive", quantile=0.9, share=0.3),
}
any_rule = st.one_of(
    st.just(FLAT),
    st.just(PER_LAYER),
    st.builds(NormalizedClipping, kind=st.just("normalized"), stability=st.floats(1e-300, 1e6)),
    st.builds(
        AdaptiveClipping,
        kind=st.just("adaptive"),
        quantile=st.floats(0.01, 0.99),
        share=st.floats(0.01, 0.99),
    ),
)


def thresholds(rule: ClippingRule) -> int:
    return 1 if isinstance(rule, AdaptiveClipping) else 0


def make_network(name: str, precision: PrecisionName = "double") -> Network:
    kind = KINDS[name]
    performance = Performance(precision=precision)
    return network_for(kind.spec, kind.features, "cross_entropy", performance=performance)


def make_units(name: str, count: int, seed: int = 0, lanes: tuple[int, ...] = ()) -> Units:
    kind = KINDS[name]
    lane_array = np.array(lanes, dtype=np.int64)
    return Units(kind.records(count, seed), kind.labels(count, seed), lane_array)


def make_weights(network: Network, rule: ClippingRule, lanes: int = 0) -> FloatArray:
    weights = 0.5 * np.random.default_rng(0).standard_normal(network.dimension)
    return np.concatenate([weights, np.zeros(thresholds(rule) + lanes)])


def naive_unit(
    gradient: FloatArray, rule: ClippingRule, bound: float, network: Network
) -> FloatArray:
    """What the rule says about one unit's exact gradient."""
    norm = float(np.linalg.norm(gradient))
    match rule:
        case FlatClipping():
            return gradient * min(1.0, bound / norm)
        case NormalizedClipping():
            return bound * gradient / (norm + rule.stability)
        case PerLayerClipping():
            clipped = gradient.copy()
            for layer in network.layers:
                spans = [slice(span.start, span.stop) for span in layer.spans.values()]
                part = np.linalg.norm(np.concatenate([gradient[span] for span in spans]))
                for span in spans:
                    clipped[span] *= min(1.0, bound / np.sqrt(len(network.layers)) / part)
            return clipped
        case AdaptiveClipping():
            target = rule.gradient_share * bound
            bit = rule.share * bound * rule.bit(is_below=norm <= target)
            return np.append(gradient * min(1.0, target / norm), bit)


# --- the contributions ------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", KINDS)
def test_equals_what_the_rule_says_about_each_unit(name: str, rule: ClippingRule) -> None:
    network, units = make_network(name), make_units(name, 9)
    weights = make_weights(network, rule)
    exact = naive_gradients(
        KINDS[name].spec, units.features, units.labels, weights[: network.dimension], CrossEntropy()
    )
    # Between the norms, so that some units are clipped; far from each, so that rounding is none.
    norms = np.sort(np.linalg.norm(exact, axis=1))
    bound = float(norms[4] + norms[5]) / 2
    expected = sum(naive_unit(gradient, rule, bound, network) for gradient in exact)
    summed = clipped_sum(units, np.arange(9), weights, network, bound=bound, rule=rule)
    assert np.allclose(summed, expected, rtol=0, atol=0.02 * bound)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["logistic", "mlp", "conv2d", "embedding", "lstm"]),
    rule=any_rule,
    scale=st.floats(1e-6, 1e6),
    bound=st.floats(1e-3, 1e3),
    precision=st.sampled_from(["single", "double"]),
    seed=st.integers(0, 2**16),
)
def test_one_unit_never_contributes_more_than_the_bound(  # noqa: PLR0917 (by name)
    name: str,
    rule: ClippingRule,
    scale: float,
    bound: float,
    precision: PrecisionName,
    seed: int,
) -> None:
    network, units = make_network(name, precision), make_units(name, 1, seed)
    weights = scale * make_weights(network, rule)
    summed = clipped_sum(units, np.array([0]), weights, network, bound=bound, rule=rule)
    assert np.linalg.norm(summed) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_worst_case_unit_contributes_the_whole_bound(rule: ClippingRule) -> None:
    network, units = make_network("logistic"), make_units("logistic", 1)
    weights = make_weights(network, rule)
    units.features[:] *= 1e6
    units.labels[:] = np.argmin(units.features @ weights[:15].reshape(3, 5).T.astype(np.float32))
    summed = clipped_sum(units, np.array([0]), weights, network, bound=0.5, rule=rule)
    assert np.linalg.norm(summed) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_unit_without_a_finite_gradient_contributes_exactly_zero(
    bad: float, rule: ClippingRule, precision: PrecisionName
) -> None:
    network, units = make_network("mlp", precision), make_units("mlp", 1)
    units.features[0, 2] = bad
    weights = make_weights(network, rule)
    summed = clipped_sum(units, np.array([0]), weights, network, bound=0.5, rule=rule)
    # The bit too: nobody can tell such a unit from one that was not sampled.
    assert not summed.any()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_weights_that_are_not_finite_give_an_exact_zero(rule: ClippingRule) -> None:
    network, units = make_network("mlp"), make_units("mlp", 5)
    weights = np.full(network.dimension + thresholds(rule), np.nan)
    assert not clipped_sum(units, np.arange(5), weights, network, bound=1.0, rule=rule).any()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("scale", [1e15, 1e25, 1e37])
def test_gradients_near_overflow_stay_within_the_bound(rule: ClippingRule, scale: float) -> None:
    network, units = make_network("mlp", "single"), make_units("mlp", 20)
    weights = scale * make_weights(network, rule)
    for index in range(20):
        summed = clipped_sum(units, np.array([index]), weights, network, bound=0.5, rule=rule)
        assert np.linalg.norm(summed) <= 0.5


@settings(max_examples=50, deadline=None)
@given(rule=any_rule, size=st.floats(1e-44, 1e-20), gradient=st.floats(1e-30, 1e38))
def test_tiny_inputs_of_steep_losses_do_not_overflow(
    rule: ClippingRule, size: float, gradient: float
) -> None:
    # Without a bias nothing keeps a layer's gradient at its output below its norm.
    layer = torch.nn.Linear(2, 2, bias=False)
    network = Network(
        torch.nn.Sequential(layer, torch.nn.Linear(2, 3, bias=False)),
        CrossEntropy(),
        torch.zeros(1, 2),
        performance=Performance(precision="single"),
    )
    units = Units(np.full((2, 2), size, np.float32), np.zeros(2, np.float32), NOBODY)
    weights = np.full(network.dimension + thresholds(rule), gradient)
    weights[7] *= -1
    summed = clipped_sum(units, np.array([0]), weights, network, bound=0.5, rule=rule)
    assert np.linalg.norm(summed) <= 0.5


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_canary_gives_the_bound_to_its_lane_and_nothing_else(rule: ClippingRule) -> None:
    network, units = make_network("logistic"), make_units("logistic", 0, lanes=(1,))
    weights = make_weights(network, rule, lanes=3)
    summed = clipped_sum(units, np.array([0]), weights, network, bound=0.75, rule=rule)
    assert summed[-2] == 0.75
    assert np.count_nonzero(summed) == 1


# --- the sums ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", KINDS)
def test_one_unit_more_moves_the_sum_by_at_most_the_bound(name: str, rule: ClippingRule) -> None:
    network, units = make_network(name, "single"), make_units(name, 150)
    weights = 10 * make_weights(network, rule)
    order = np.random.default_rng(1).permutation(150)
    whole = clipped_sum(units, order, weights, network, bound=0.5, rule=rule)
    # The coupling of `arithmetic`: the last one takes the place of the one that goes.
    less = order.copy()[:-1]
    less[70] = order[-1]
    rest = clipped_sum(units, less, weights, network, bound=0.5, rule=rule)
    assert 0 < np.linalg.norm(whole - rest) <= 0.5


@pytest.mark.parametrize(
    ("rule", "loose"),
    [*itertools.product(RULES.values(), ["forgets layers", "clips nothing"])],
)
def test_a_broken_rule_is_found(
    rule: ClippingRule, loose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(squared_norms: torch.Tensor, rule: ClippingRule, *, bound: float) -> rules.Clip:
        if loose == "forgets layers":
            kept = squared_norms.clone()
            kept[:-1] = 0
            return clip(kept, rule, bound=bound)
        return replace(
            clip(squared_norms, rule, bound=bound), factors=torch.ones_like(squared_norms)
        )

    monkeypatch.setattr(clipping, "clip", broken)
    network, units = make_network("mlp"), make_units("mlp", 1)
    weights = make_weights(network, rule)
    summed = clipped_sum(units, np.array([0]), weights, network, bound=1e-2, rule=rule)
    assert np.linalg.norm(summed) > 1e-2


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_chunks_do_not_matter(rule: ClippingRule, monkeypatch: pytest.MonkeyPatch) -> None:
    network, units = make_network("mlp"), make_units("mlp", 300)
    weights = make_weights(network, rule)
    sums = []
    for rows in (256, 512, 1024):
        chunked = replace(network.arithmetic, chunk_rows=rows)
        monkeypatch.setattr(network, "arithmetic", chunked)
        sums.append(clipped_sum(units, np.arange(300), weights, network, bound=0.5, rule=rule))
    assert np.allclose(sums[0], sums[1], rtol=1e-12, atol=1e-14)
    assert np.allclose(sums[0], sums[2], rtol=1e-12, atol=1e-14)


# --- the factors ------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    norms=st.lists(
        st.lists(
            st.one_of(st.floats(0, 1e200), st.sampled_from([np.nan, np.inf])),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=5,
    ),
    rule=any_rule,
    bound=st.floats(1e-6, 1e6),
)
def test_factors_bound_every_unit(
    norms: list[list[float]], rule: ClippingRule, bound: float
) -> None:
    squares = torch.tensor(norms, dtype=torch.float64).square()
    clipped = clip(squares, rule, bound=bound)
    assert ((clipped.factors >= 0) & (clipped.factors <= 1)).all()
    is_bad = ~squares.isfinite().all(dim=0)
    assert torch.equal(clipped.excluded, is_bad)
    assert not clipped.factors[:, is_bad].any()
    assert not clipped.below[is_bad].any()
    finite = torch.nan_to_num(squares, 0.0, 0.0).sqrt()
    reached = (clipped.factors * finite).square().sum(dim=0).sqrt()
    reached = reached * amplification(rule, bound)
    limit = bound
    if isinstance(rule, AdaptiveClipping):
        bit = [abs(threshold_sum(rule, below=b, above=1 - b, bound=bound)) for b in (0, 1)]
        limit = float(np.sqrt(bound**2 - max(bit) ** 2 * (1 - 1e-12)))
    assert (reached <= limit * (1 + 1e-9)).all()


def test_the_amplification_is_public_at_least_one_and_capped() -> None:
    assert amplification(FLAT, 3.0) == 1
    assert amplification(NORMALIZED, 1.0) == pytest.approx(100)
    tiny = NormalizedClipping(kind="normalized", stability=1e-30)
    assert amplification(tiny, 1.0) == 2.0**20
    large = NormalizedClipping(kind="normalized", stability=10.0)
    assert amplification(large, 1.0) == 1


def test_the_threshold_counts_who_is_below() -> None:
    rule = AdaptiveClipping(kind="adaptive", quantile=0.75, share=0.2)
    squares = torch.tensor([[0.01, 4.0, np.nan, 0.25]], dtype=torch.float64)
    clipped = clip(squares, rule, bound=1.0)
    assert clipped.below.tolist() == [True, False, False, True]
    # At the quantile the bits are zero on average.
    assert threshold_sum(rule, below=3, above=1, bound=1.0) == pytest.approx(0, abs=1e-15)
    assert threshold_sum(rule, below=0, above=1, bound=2.0) == pytest.approx(-0.4)
    assert threshold_sum(rule, below=1, above=0, bound=2.0) == pytest.approx(0.4 / 3)
