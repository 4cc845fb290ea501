"""Evidence that may be looked at after every run: e-processes, and how e-values are combined.

An e-process starts at 1 and bets against the claim. If the claim is true, its value is expected to
fall whatever happened so far, and the chance that it ever reaches 1 / a is at most a (Ville 1939):
so it may be kept across runs and looked at after each, which p-values do not allow.

Data come in pairs: the score of a canary that was inserted, and of one that was held out. A claim
that is (epsilon, delta)-DP bounds the probability of each event, and so does it in expectation:
`1[inserted >= t] - e^epsilon * 1[held out >= t] - delta <= 0`, and the same for scores below, with
the two exchanged. Assumed: pairs are independent of each other, and nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.ranges import require_delta, require_epsilon, require_error
from sordino_audit.bounds.trade_off import TradeOff

Floats = NDArray[np.float64]

STAKES: tuple[float, ...] = (0.15, 0.35, 0.95)
"""Shares of the capital that a process bets in parallel; no bet can lose more than its stake."""

_WAGERS_A_SIDE = 7
_LARGEST_REACH = 1.5
_USEFUL_DELTA = 0.15
_COARSE, _FINE = 2001, 1001
_BISECTIONS = 40
_LARGEST_LOG = 700.0


@dataclass(frozen=True, slots=True)
class Wager:
    """A bet that an event is likelier for inserted canaries than (epsilon, delta) allows.

    Attributes:
        threshold: of the score; fixed before any score is seen.
        epsilon: what the claim promises for this event, with `delta`.
        delta: see `epsilon`.
        is_reversed: the event is a score below the threshold, likelier for held-out canaries.
    """

    threshold: float
    epsilon: float
    delta: float
    is_reversed: bool

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be finite, not {self.threshold}")
        require_epsilon(self.epsilon)
        require_delta(self.delta)


@dataclass(frozen=True, slots=True)
class EProcess:
    """The state of one e-process: made by `start`, moved by `update`.

    Attributes:
        wagers: the events that are bet on, all at once.
        log_capitals: natural logarithm of the capital of each stake in `STAKES`; they start at 0.
        log_peak: the largest `log_value` so far.
        pairs: number of pairs seen.
    """

    wagers: tuple[Wager, ...]
    log_capitals: tuple[float, ...]
    log_peak: float
    pairs: int

    def __post_init__(self) -> None:
        if not self.wagers:
            raise ValueError("an e-process needs at least one wager")
        if len(self.log_capitals) != len(STAKES) or not np.isfinite(self.log_capitals).all():
            raise ValueError(f"expected {len(STAKES)} finite logarithms of capital")
        if self.pairs < 0 or not self.log_peak >= 0:
            raise ValueError("pairs and log_peak must be at least 0")

    @property
    def log_value(self) -> float:
        """Natural logarithm of the e-value: of the mean of the capitals."""
        return log_mean(self.log_capitals)

    @property
    def value(self) -> float:
        """The e-value, > 0; at most e^700."""
        return math.exp(min(self.log_value, _LARGEST_LOG))


def start(wagers: Sequence[Wager]) -> EProcess:
    """An e-process that has seen nothing; its value is 1."""
    return EProcess(tuple(wagers), (0.0,) * len(STAKES), 0.0, 0)


def claimed_wagers(claimed: TradeOff) -> tuple[Wager, ...]:
    """Wagers against a claimed curve for scores that are the claim's log-likelihood ratios.

    Fifteen events, score >= epsilon and score <= -epsilon, for epsilons from 0 to where the claim's
    delta has fallen to 15 % of its largest, or 1.5: at its threshold each is an event for which the
    claim promises nothing less, so that any breach of it counts. Chosen from the claim alone.

    Args:
        claimed: a convex curve that holds in both directions, as that of add-or-remove does.

    Returns:
        valid wagers whatever the scores are; powerful ones if they are log-likelihood ratios.
    """
    useful = _USEFUL_DELTA * delta_of_curve(claimed, 0.0)
    reach = _LARGEST_REACH
    if delta_of_curve(claimed, reach) < useful:
        low = 0.0
        for _ in range(_BISECTIONS):
            middle = (low + reach) / 2
            low, reach = (
                (middle, reach) if delta_of_curve(claimed, middle) >= useful else (low, middle)
            )
    epsilons = np.linspace(0.0, reach, _WAGERS_A_SIDE + 1)
    pairs = [(float(each), delta_of_curve(claimed, float(each))) for each in epsilons]
    above = [Wager(epsilon, epsilon, delta, is_reversed=False) for epsilon, delta in pairs]
    below = [Wager(-epsilon, epsilon, delta, is_reversed=True) for epsilon, delta in pairs[1:]]
    return (*reversed(below), *above)


def delta_of_curve(claimed: TradeOff, epsilon: float) -> float:
    """The delta at `epsilon` of a convex trade-off curve, rounded up (by 1e-5 at 1.5).

    `delta = 1 + f*(-e^epsilon)`, the largest `1 - f(x) - e^epsilon x` (Dong, Roth & Su 2022,
    prop. 2.12). Between neighbours on a grid it is bounded by taking f at the right and x at the
    left one, since f falls.
    """
    require_epsilon(epsilon)
    growth = math.exp(epsilon)
    coarse = np.linspace(0.0, 1.0, _COARSE)
    best = int(np.argmax(1 - claimed(coarse) - growth * coarse))
    first, last = coarse[max(best - 1, 0)], coarse[min(best + 1, _COARSE - 1)]
    fine = np.linspace(first, last, _FINE)
    largest = float(np.max(1 - claimed(fine)[1:] - growth * fine[:-1]))
    return min(max(largest, 0.0), 1 - 1e-12)


def update(process: EProcess, inserted: Floats, held_out: Floats) -> EProcess:
    """The process after some more pairs.

    Args:
        process: the state so far.
        inserted: one score a pair, of the canary that was inserted, shape (pairs,).
        held_out: one score a pair, of the canary that was not, same shape.

    Raises:
        ValueError: shapes that differ, or a score that is not a number.
    """
    if not inserted.size and not held_out.size:
        return process
    paths = _capital_paths(process, inserted, held_out)
    peak = float(_log_mean_exp(paths).max())
    return replace(
        process,
        log_capitals=tuple(paths[:, -1].tolist()),
        log_peak=max(process.log_peak, peak),
        pairs=process.pairs + inserted.size,
    )


def log_path(process: EProcess, inserted: Floats, held_out: Floats) -> Floats:
    """The `log_value` after each further pair, shape (pairs,); arguments as for `update`."""
    return _log_mean_exp(_capital_paths(process, inserted, held_out))


def mean_e_value(e_values: Sequence[float]) -> float:
    """The e-value of several on the same data: their mean is one, whatever their dependence.

    Vovk & Wang 2021, proposition 3.1: no other symmetric way is better. Without any it is 1.

    Raises:
        ValueError: an e-value that is negative or not a number.
    """
    _require_e_values(e_values)
    return float(np.mean(e_values)) if e_values else 1.0


def log_mean(log_values: Sequence[float]) -> float:
    """Natural logarithm of the mean of e-values that are given by theirs; 0 without any."""
    if not log_values:
        return 0.0
    return float(_log_mean_exp(np.array(log_values, dtype=np.float64)[:, np.newaxis])[0])


def e_value_from_p_value(p_value: float) -> float:
    """An e-value of a valid p-value: `(1 - p + p ln p) / (p ln^2 p)` (Vovk & Wang 2021, eq. 2.2).

    The mean over k of the calibrators `k * p^(k - 1)`. At p = 1e-5 it is about 750.

    Raises:
        ValueError: a p-value outside (0, 1].
    """
    if not 0 < p_value <= 1:
        raise ValueError(f"a p-value must be in (0, 1], not {p_value}")
    log_p = math.log(p_value)
    if log_p > -1e-3:  # noqa: PLR2004 - the series; the formula cancels here
        return 0.5 - log_p / 3
    return min((1 - p_value + p_value * log_p) / p_value / log_p**2, math.exp(_LARGEST_LOG))


def e_bh(e_values: Mapping[str, float], *, alpha: float) -> frozenset[str]:
    """The names whose e-values are rejected with a false discovery rate of at most `alpha`.

    Wang & Ramdas 2022 (sec. 4): the k largest, for the largest k at which all of them reach
    `len(e_values) / (alpha * k)`. Holds under any dependence.

    Raises:
        ValueError: alpha outside (0, 1), or an e-value that is negative or not a number.
    """
    require_error(alpha)
    _require_e_values(tuple(e_values.values()))
    ranked = sorted(e_values, key=lambda name: e_values[name], reverse=True)
    enough = [
        rank
        for rank, name in enumerate(ranked, start=1)
        if e_values[name] * rank * alpha >= len(ranked)
    ]
    return frozenset(ranked[: max(enough, default=0)])


def to_json(process: EProcess) -> dict[str, object]:
    """The process as numbers, lists and strings; `from_json` gives it back exactly."""
    return {
        "wagers": [
            [wager.threshold, wager.epsilon, wager.delta, wager.is_reversed]
            for wager in process.wagers
        ],
        "log_capitals": list(process.log_capitals),
        "log_peak": process.log_peak,
        "pairs": process.pairs,
    }


def from_json(document: Mapping[str, object]) -> EProcess:
    """The process that `to_json` wrote.

    Raises:
        ValueError: anything else.
    """
    match document:
        case {
            "wagers": list(wagers),
            "log_capitals": list(capitals),
            "log_peak": float(peak) | int(peak),
            "pairs": int(pairs),
            **rest,
        } if not rest:
            return EProcess(
                tuple(_wager(each) for each in wagers),
                tuple(_number(each) for each in capitals),
                float(peak),
                pairs,
            )
    raise ValueError("this is no e-process: expected wagers, log_capitals, log_peak and pairs")


def _wager(item: object) -> Wager:
    match item:
        case [threshold, epsilon, delta, bool(is_reversed)]:
            return Wager(
                _number(threshold), _number(epsilon), _number(delta), is_reversed=is_reversed
            )
    raise ValueError("a wager is [threshold, epsilon, delta, is_reversed]")


def _number(item: object) -> float:
    if isinstance(item, int | float) and not isinstance(item, bool):
        return float(item)
    raise ValueError(f"expected a number, not {item!r}")


def _require_e_values(e_values: Sequence[float]) -> None:
    if any(not each >= 0 for each in e_values):
        raise ValueError("every e-value must be a number of at least 0")


def _capital_paths(process: EProcess, inserted: Floats, held_out: Floats) -> Floats:
    """Logarithm of each stake's capital after each pair, shape (stakes, pairs)."""
    if inserted.shape != held_out.shape or inserted.ndim != 1:
        raise ValueError(
            f"expected as many inserted as held-out scores, not {inserted.shape} "
            f"and {held_out.shape}"
        )
    if np.isnan(inserted).any() or np.isnan(held_out).any():
        raise ValueError("every score must be a number")
    gains = _gains(process.wagers, inserted, held_out)
    steps = np.log1p(np.array(STAKES)[:, np.newaxis] * gains)
    paths: Floats = np.cumsum(steps, axis=1) + np.array(process.log_capitals)[:, np.newaxis]
    return paths


def _gains(wagers: Sequence[Wager], inserted: Floats, held_out: Floats) -> Floats:
    """What a pair brings, at least -1 and in expectation at most 0 if the claim is true.

    Wagers are weighted by e^-epsilon, as the evidence that they give falls: sharing the stake is
    better than one event by a third, and loses less than mixing processes. A weighted mean of
    bets is a bet.
    """
    total, largest_loss = np.zeros(inserted.shape), 0.0
    for wager in wagers:
        weight, growth = math.exp(-wager.epsilon), math.exp(wager.epsilon)
        if wager.is_reversed:
            likely, unlikely = held_out <= wager.threshold, inserted <= wager.threshold
        else:
            likely, unlikely = inserted >= wager.threshold, held_out >= wager.threshold
        total += weight * (likely - growth * unlikely - wager.delta)
        largest_loss += weight * (growth + wager.delta)
    return total / largest_loss


def _log_mean_exp(log_values: Floats) -> Floats:
    largest = log_values.max(axis=0)
    means: Floats = largest + np.log(np.mean(np.exp(log_values - largest), axis=0))
    return means
