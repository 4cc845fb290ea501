"""E-processes: their capital under true and false claims, and how e-values are combined."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statistical import assert_rate

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.e_process import (
    STAKES,
    EProcess,
    Wager,
    claimed_wagers,
    delta_of_curve,
    e_bh,
    e_value_from_p_value,
    from_json,
    log_mean,
    log_path,
    mean_e_value,
    start,
    to_json,
    update,
)
from sordino_audit.bounds.trade_off import TradeOff, gaussian_curve, guarantee_curve
from sordino_protocols.privacy import Guarantee

Floats = NDArray[np.float64]


def gaussian_pairs(
    mu: float, noise_ratio: float, pairs: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Log-likelihood ratios, under the claim mu, of pairs whose noise is that many times it."""
    scale = noise_ratio / mu
    inserted = 1 + scale * rng.standard_normal(pairs)
    held_out = scale * rng.standard_normal(pairs)
    return mu**2 * (inserted - 0.5), mu**2 * (held_out - 0.5)


def crossings(
    claimed: TradeOff, mu: float, noise_ratio: float, *, level: float, pairs: int, seed: int
) -> list[int]:
    """In each of some repetitions: after how many pairs the level is reached; 0 if never."""
    process, found = start(claimed_wagers(claimed)), []
    for stream in np.random.default_rng(seed).spawn(60 if noise_ratio < 1 else 400):
        path = log_path(process, *gaussian_pairs(mu, noise_ratio, pairs, stream))
        is_over = path >= math.log(level)
        found.append(int(is_over.argmax()) + 1 if is_over.any() else 0)
    return found


def test_a_true_claim_is_ever_rejected_no_more_often_than_stated() -> None:
    """Ville: the chance of ever reaching 20 is at most 1 / 20, with noise exactly as claimed."""
    reached = crossings(gaussian_curve(1.0), 1.0, 1.0, level=20, pairs=1_500, seed=21)
    assert_rate(sum(each > 0 for each in reached), len(reached), 1 / 20, at_most=True)


def test_forgetting_delta_would_be_noticed() -> None:
    """The check above can fail: bets that leave delta out win against a true claim."""
    careless = [replace(wager, delta=0.0) for wager in claimed_wagers(gaussian_curve(1.0))]
    rng, reached = np.random.default_rng(27), 0
    for _ in range(100):
        path = log_path(start(careless), *gaussian_pairs(1.0, 1.0, 1_500, rng))
        reached += bool((path >= math.log(20)).any())
    assert_rate(reached, 100, 0.5, at_least=True)


def test_a_tight_pure_claim_is_ever_rejected_no_more_often_than_stated() -> None:
    """The other worst case: randomised response, which attains (epsilon, 0) at every event."""
    rng, epsilon = np.random.default_rng(22), 1.0
    process = start(claimed_wagers(guarantee_curve(Guarantee(epsilon, 1e-12))))
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    reached = 0
    for _ in range(400):
        inserted = np.where(rng.random(1_000) < truth, epsilon, -epsilon)
        held_out = np.where(rng.random(1_000) < truth, -epsilon, epsilon)
        reached += bool((log_path(process, inserted, held_out) >= math.log(20)).any())
    assert_rate(reached, 400, 1 / 20, at_most=True)


def test_the_expected_value_under_a_true_claim_is_at_most_one() -> None:
    process, rng = start(claimed_wagers(gaussian_curve(1.0))), np.random.default_rng(23)
    values = [update(process, *gaussian_pairs(1.0, 1.0, 5, rng)).value for _ in range(2_000)]
    error = float(np.std(values)) / math.sqrt(len(values))
    assert np.mean(values) <= 1 + 6 * error


@pytest.mark.parametrize(("noise_ratio", "pairs"), [(0.9, 6_000), (math.sqrt(0.5), 800)])
def test_too_little_noise_is_found(noise_ratio: float, pairs: int) -> None:
    """Medians of 3,100 and 420 pairs are the bars; see the benchmark of bounds."""
    found = crossings(gaussian_curve(1.0), 1.0, noise_ratio, level=1000, pairs=pairs, seed=24)
    after = np.array([each or pairs for each in found])
    bar = 3_100 if noise_ratio == 0.9 else 420
    assert_rate(int(np.sum(after <= 1.5 * bar)), len(found), 0.5, at_least=True)
    assert_rate(sum(each > 0 for each in found), len(found), 0.8, at_least=True)


def test_scores_that_are_below_for_members_are_found_too() -> None:
    """One side only: events that a canary makes unlikely, which the reversed wagers see."""
    rng = np.random.default_rng(25)
    held_out = np.where(rng.random(3_000) < 0.3, -1.0, 5.0)
    inserted = np.full(3_000, 5.0)
    claimed = gaussian_curve(0.5)
    both = update(start(claimed_wagers(claimed)), inserted, held_out)
    above = [wager for wager in claimed_wagers(claimed) if not wager.is_reversed]
    assert both.value > 1000 > update(start(above), inserted, held_out).value


def test_capital_never_turns_negative_however_bad_the_bets() -> None:
    process = start(claimed_wagers(gaussian_curve(3.0)))
    worst = update(process, np.full(2_000, -50.0), np.full(2_000, 50.0))
    assert np.isfinite(worst.log_capitals).all()
    assert 0 < worst.value < 1e-6
    assert worst.log_peak == 0.0


def test_one_pair_can_lose_no_more_than_the_stakes() -> None:
    process = start(claimed_wagers(gaussian_curve(2.0)))
    after = update(process, np.array([-50.0]), np.array([50.0]))
    assert after.value >= 1 - np.mean(STAKES) - 1e-12


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
@settings(deadline=None, max_examples=40)
def test_pairs_may_come_in_any_portions(seed: int, first: int) -> None:
    inserted, held_out = gaussian_pairs(1.0, 0.8, 40, np.random.default_rng(seed))
    process = start(claimed_wagers(gaussian_curve(1.0)))
    whole = update(process, inserted, held_out)
    part = update(process, inserted[:first], held_out[:first])
    parts = update(part, inserted[first:], held_out[first:])
    assert parts.pairs == whole.pairs == 40
    assert parts.log_capitals == pytest.approx(whole.log_capitals, abs=1e-9)
    assert parts.log_peak == pytest.approx(whole.log_peak, abs=1e-9)


def test_an_event_pays_as_the_claim_says() -> None:
    """One wager, one stake, by hand: 1 + s (1[in] - e^eps 1[out] - delta) / (e^eps + delta)."""
    wager = Wager(threshold=0.5, epsilon=0.3, delta=0.01, is_reversed=False)
    growth = math.exp(0.3)
    for inserted, held_out in ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)):
        gain = (inserted >= 0.5) - growth * (held_out >= 0.5) - 0.01
        expected = [math.log1p(stake * gain / (growth + 0.01)) for stake in STAKES]
        after = update(start([wager]), np.array([inserted]), np.array([held_out]))
        assert after.log_capitals == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_survives_the_trip_through_json(seed: int) -> None:
    process = update(
        start(claimed_wagers(gaussian_curve(0.7))),
        *gaussian_pairs(0.7, 0.9, 30, np.random.default_rng(seed)),
    )
    assert from_json(json.loads(json.dumps(to_json(process)))) == process


@pytest.mark.parametrize(
    "damage",
    [
        {"pairs": "many"},
        {"pairs": -1},
        {"log_capitals": [0.0]},
        {"log_capitals": [0.0, math.nan, 0.0]},
        {"wagers": []},
        {"wagers": [[0.0, -1.0, 0.1, False]]},
        {"wagers": [[0.0, 1.0, 0.1, 1]]},
        {"wagers": [[0.0, True, 0.1, False]]},
        {"log_peak": -1.0},
        {"more": 1},
    ],
)
def test_a_damaged_process_is_refused(damage: dict[str, object]) -> None:
    document = to_json(start(claimed_wagers(gaussian_curve(1.0)))) | damage
    with pytest.raises(ValueError, match=r"."):
        from_json(document)


def test_scores_that_do_not_pair_up_are_refused() -> None:
    process = start(claimed_wagers(gaussian_curve(1.0)))
    with pytest.raises(ValueError, match="as many inserted"):
        update(process, np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="must be a number"):
        update(process, np.array([math.nan]), np.zeros(1))
    assert update(process, np.array([]), np.array([])) == process


def test_an_empty_process_needs_a_wager() -> None:
    with pytest.raises(ValueError, match="at least one wager"):
        start([])
    with pytest.raises(ValueError, match="at least 0"):
        EProcess(claimed_wagers(gaussian_curve(1.0)), (0.0,) * len(STAKES), 0.0, -1)


@pytest.mark.parametrize("mu", [0.05, 0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.5])
def test_delta_of_a_curve_is_rounded_up_and_only_a_little(mu: float, epsilon: float) -> None:
    exact = gaussian.delta_from_mu(mu, epsilon)
    rounded = delta_of_curve(gaussian_curve(mu), epsilon)
    assert exact <= rounded <= exact + 5e-4
    if mu <= 3:
        assert rounded <= exact + 1e-5


def test_wagers_hold_for_the_claimed_mechanism_and_are_tight() -> None:
    """Under the claim itself an event's balance is 0: nothing is given away."""
    mu = 1.3
    for wager in claimed_wagers(gaussian_curve(mu)):
        reading = wager.threshold / mu**2 + 0.5
        if wager.is_reversed:
            likely = 1 - gaussian.upper_tail(np.array(reading * mu))
            unlikely = 1 - gaussian.upper_tail(np.array((reading - 1) * mu))
        else:
            likely = gaussian.upper_tail(np.array((reading - 1) * mu))
            unlikely = gaussian.upper_tail(np.array(reading * mu))
        balance = float(likely - math.exp(wager.epsilon) * unlikely - wager.delta)
        assert -1e-5 <= balance <= 1e-12


def test_e_values_of_one_audit_are_averaged() -> None:
    assert mean_e_value([1.0, 3.0, 0.0]) == pytest.approx(4 / 3)
    assert mean_e_value([]) == 1.0
    assert log_mean([math.log(2), math.log(4)]) == pytest.approx(math.log(3))
    assert log_mean([5_000.0, 5_000.0]) == pytest.approx(5_000.0)
    assert log_mean([]) == 0.0
    with pytest.raises(ValueError, match="e-value"):
        mean_e_value([-0.1])


def test_calibrated_p_values_have_an_expected_value_of_one() -> None:
    grid = np.exp(-np.linspace(0, 690, 400_001))
    values = np.array([e_value_from_p_value(float(p)) for p in grid[::100]])
    assert float(np.trapezoid(values[::-1], grid[::100][::-1])) == pytest.approx(1.0, abs=0.01)
    assert np.all(np.diff(values) >= -1e-9)
    with pytest.raises(ValueError, match="p-value"):
        e_value_from_p_value(0.0)


def test_e_bh_rejects_the_largest_that_reach_their_share() -> None:
    e_values = {"north": 300.0, "south": 30.0, "east": 1.0, "west": 0.2}
    assert e_bh(e_values, alpha=0.05) == {"north"}
    assert e_bh({**e_values, "south": 90.0}, alpha=0.05) == {"north", "south"}
    assert e_bh({"a": 41.0, "b": 41.0}, alpha=0.05) == {"a", "b"}  # 2 / (.05 * 2) = 20 each
    assert e_bh({"a": 39.0, "b": 1.0}, alpha=0.05) == frozenset()
    assert e_bh({"a": math.inf}, alpha=0.05) == {"a"}
    assert e_bh({}, alpha=0.05) == frozenset()
    with pytest.raises(ValueError, match="error"):
        e_bh(e_values, alpha=0.0)
    with pytest.raises(ValueError, match="e-value"):
        e_bh({"a": math.nan}, alpha=0.05)


def test_e_bh_keeps_its_false_discovery_rate_when_e_values_are_dependent() -> None:
    """All nulls, e-values all equal (the worst dependence): each is 20 with probability 1 / 20."""
    rng, trials = np.random.default_rng(26), 4_000
    shared = np.where(rng.random(trials) < 0.05, 20.0, 0.0)
    rejected = sum(bool(e_bh({str(i): float(e) for i in range(5)}, alpha=0.05)) for e in shared)
    assert_rate(rejected, trials, 0.05, at_most=True)
    assert rejected > 0
