"""The estimators of the audit: published values, false alarms of clean audits, pairs to find a bug.

`python -m benchmarks.audit_bounds [--quick] [--json]`

Published values are those of the papers. A false alarm is a bound above the truth, or a true claim
that is rejected, over simulated audits of mechanisms for which the bound has least room: randomised
response where only (epsilon, delta) is assumed, exactly the claimed Gaussian noise elsewhere. Each
rate stands beside its nominal value, and under all of them the smallest p-value of "the true rate
is at most nominal" (exact binomial test). What the literature does is measured beside it.

Pairs are worst-case lanes, one with a canary and one without, of Gaussian noise without
subsampling: what an e-process needs depends on the claim, so several are shown. The bars are those
for the claim mu = 1 (epsilon 4.38 at delta 1e-5) and larger ones up to 3; mu = 0.5 is for
comparison, as no test can be that fast there: the nearest pair of laws that keeps the claim is
.00077 nats away for 10 % too little noise, and ln 1000 takes 8,950 pairs of them.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, ndtr

from benchmarks.reporting import Figure, report
from sordino_audit.bounds import (
    convention,
    credible,
    e_process,
    families,
    gaussian,
    one_run,
    one_run_f_dp,
    step_level,
)
from sordino_audit.bounds.clopper_pearson import Counts, epsilon_lower_bound
from sordino_audit.bounds.trade_off import gaussian_curve, guarantee_curve, is_rejected
from sordino_protocols.privacy import Guarantee

Floats = NDArray[np.float64]
Simulate = Callable[[np.random.Generator, int], int]
Mechanism = Literal["gaussian", "randomised response"]

DELTA = 1e-5
ERROR = 0.05
SMALLEST_P_VALUE = 0.001
REPETITIONS = 250
PAIRS_BARS = {0.9: 3_100, math.sqrt(0.5): 420}
_PUBLISHED_ONE_RUN = (
    (1000, 100, 95, 2.1652, 3.3233),
    (1000, 200, 190, 2.3936, 3.9161),
    (1000, 500, 400, 1.1980, 2.0768),
    (5000, 100, 100, 3.3524, 4.6242),
    (10000, 1000, 900, 2.0152, 2.8026),
)
_LANES = 400
_PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often an estimator is wrong when everything is as claimed.

    Attributes:
        name: of the estimator, and of what is audited.
        nominal: how often it may be wrong; None for what is no bound.
        wrong: counts the clean audits, of a given number, in which it is wrong.
        share: of the usual number of audits: a half of it is 1,000 still.
    """

    name: str
    nominal: float | None
    wrong: Simulate
    share: float = 1.0


def main() -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(description="published values and calibration of bounds")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    started = time.process_time()
    results = figures(quick=chosen.quick)
    context = {
        "clean audits": f"{_audits(quick=chosen.quick)}; half for the slow, ten times for the fast",
        "repetitions of an e-process": REPETITIONS,
        "CPU seconds": round(time.process_time() - started, 1),
    }
    return report(results, context, as_json=chosen.json)


def figures(*, quick: bool) -> list[Figure]:
    """All figures of this benchmark.

    Quick ones simulate 60 audits where the others simulate 2,000, too few for a bar on a rate, but
    not for the p-value; and the e-process meets one claim.
    """
    return [
        *published_figures(),
        *calibration_figures(_audits(quick=quick), has_bars=not quick),
        *pair_figures((1.0,) if quick else (0.5, 1.0, 2.0, 3.0)),
    ]


def published_figures() -> list[Figure]:
    """Distances from the published values."""
    backpropagation = Counts(174, 100_000, 100_000 - 4_922, 100_000)
    perfect = Counts(0, 400, 0, 400)
    found = [
        _distance(
            "Tramèr 2022: 4,922 and 174 of 100,000",
            epsilon_lower_bound(backpropagation, delta=0.0, confidence=1 - 1e-10),
            2.795,
        ),
        _distance(
            "cap of 400 perfect guesses a side",
            epsilon_lower_bound(perfect, delta=0.0, confidence=0.95),
            4.6815,
        ),
    ]
    for canaries, guesses, correct, pure, f_dp in _PUBLISHED_ONE_RUN:
        numbers = {"canaries": canaries, "guesses": guesses, "correct": correct}
        point = f"({canaries}, {guesses}, {correct})"
        bound = one_run.epsilon_lower_bound(**numbers, delta=DELTA, confidence=0.95)
        found.append(_distance(f"one run {point}, Steinke 2023", bound, pure))
        bound = one_run_f_dp.epsilon_lower_bound(**numbers, delta=DELTA, confidence=0.95)
        found.append(_distance(f"one run {point}, Mahloujifar 2024", bound, f_dp))
    return found


def calibration_figures(audits: int, *, has_bars: bool) -> list[Figure]:
    """False alarms over simulated clean audits, and the smallest p-value of all."""
    found, p_values = [], []
    for number, each in enumerate(_calibrations()):
        trials = max(1, round(audits * each.share))
        wrong = each.wrong(np.random.default_rng([5, number]), trials)
        if each.nominal is None:
            found.append(Figure(f"{each.name}: share wrong", wrong / trials))
            continue
        name = f"{each.name}: false alarms, nominal {each.nominal:g}"
        bar = each.nominal if has_bars else None
        found.append(Figure(name, wrong / trials, bar, is_upper_bar=has_bars))
        test = stats.binomtest(wrong, trials, each.nominal, alternative="greater")
        p_values.append(float(test.pvalue))
    smallest = "smallest p-value of a rate at most nominal, of all bounds"
    return [*found, Figure(smallest, min(p_values), SMALLEST_P_VALUE)]


def pair_figures(claims: Sequence[float]) -> list[Figure]:
    """Median number of pairs after which an e-process against a false claim reaches 1,000."""
    found = []
    for mu in claims:
        for ratio, bar in PAIRS_BARS.items():
            name = f"pairs to e = 1,000, mu = {mu:g}, {100 * (1 - ratio):.0f} % too little noise"
            median = _median_pairs(mu, ratio, limit=_PATIENCE * bar)
            has_bar = mu >= 1
            found.append(Figure(name, median, bar if has_bar else None, is_upper_bar=has_bar))
    return found


def _audits(*, quick: bool) -> int:
    return 60 if quick else 2_000


def _distance(name: str, value: float, expected: float) -> Figure:
    title = f"{name}: {value:.4f}, off the published {expected:g} by"
    return Figure(title, abs(value - expected), 1e-3, is_upper_bar=True)


def _median_pairs(mu: float, ratio: float, *, limit: int) -> float:
    process = e_process.start(e_process.claimed_wagers(gaussian_curve(mu)))
    taken = []
    for rng in np.random.default_rng(7).spawn(REPETITIONS):
        path = e_process.log_path(process, *_gaussian_pairs(mu, ratio, limit, rng))
        is_found = path >= math.log(1_000)
        taken.append(int(is_found.argmax()) + 1 if is_found.any() else limit)
    return float(np.median(taken))


def _gaussian_pairs(
    mu: float, ratio: float, pairs: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Log-likelihood ratios under the claim, of readings whose noise is `ratio` times it."""
    scale = ratio / mu
    inserted = 1 + scale * rng.standard_normal(pairs)
    held_out = scale * rng.standard_normal(pairs)
    return mu**2 * (inserted - 0.5), mu**2 * (held_out - 0.5)


def _calibrations() -> Sequence[Calibration]:
    return (
        Calibration("Clopper-Pearson, randomised response", ERROR, _clopper_pearson, 10),
        Calibration("claimed curve at 5 %, Gaussian", ERROR, _curve(ERROR), 10),
        Calibration("claimed curve at 0.1 %, Gaussian", 0.001, _curve(0.001), 10),
        Calibration("Gaussian DP, Gaussian", ERROR, _gaussian_dp, 10),
        Calibration("subsampled family, 20 steps at 0.1", ERROR, _subsampled, 0.5),
        Calibration("step level, 10 steps", ERROR, _steps),
        Calibration("one run, randomised response", ERROR, _one_run("randomised response"), 10),
        Calibration("one run, Gaussian", ERROR, _one_run("gaussian")),
        Calibration("one run by f-DP, Gaussian", ERROR, _one_run_f_dp),
        Calibration("e-process ever at 20, Gaussian", ERROR, _ever_20("gaussian")),
        Calibration(
            "e-process ever at 20, randomised response", ERROR, _ever_20("randomised response")
        ),
        Calibration(
            "convention (best threshold, uncorrected), mu = 1", None, _convention(1.0), 0.5
        ),
        Calibration(
            "convention (best threshold, uncorrected), mu = 2", None, _convention(2.0), 0.5
        ),
        Calibration("95 % credible interval, mu = 1", None, _credible, 0.5),
    )


def _counts(alarms: Sequence[int], misses: Sequence[int], lanes: int) -> list[Counts]:
    return [Counts(int(fp), lanes, int(fn), lanes) for fp, fn in zip(alarms, misses, strict=True)]


def _gaussian_counts(rng: np.random.Generator, audits: int, mu: float = 1.0) -> list[Counts]:
    """Guesses halfway between the two Gaussians of mu-GDP."""
    alarms, misses = rng.binomial(_LANES, ndtr(-mu / 2), size=(2, audits))
    return _counts(alarms.tolist(), misses.tolist(), _LANES)


def _clopper_pearson(rng: np.random.Generator, audits: int) -> int:
    alarms, misses = rng.binomial(_LANES, expit(-1.0), size=(2, audits))
    bounds = [
        epsilon_lower_bound(counts, delta=DELTA, confidence=1 - ERROR)
        for counts in _counts(alarms.tolist(), misses.tolist(), _LANES)
    ]
    return sum(bound > 1.0 for bound in bounds)


def _curve(error: float) -> Simulate:
    def wrong(rng: np.random.Generator, audits: int) -> int:
        claimed = gaussian_curve(1.0)
        return sum(
            is_rejected(counts, claimed, error=error) for counts in _gaussian_counts(rng, audits)
        )

    return wrong


def _gaussian_dp(rng: np.random.Generator, audits: int) -> int:
    bounds = [
        gaussian.mu_lower_bound(counts, confidence=1 - ERROR)
        for counts in _gaussian_counts(rng, audits)
    ]
    return sum(bound > 1.0 for bound in bounds)


def _subsampled(rng: np.random.Generator, audits: int) -> int:
    """Scores are log-likelihood ratios over all steps, the threshold is theirs in the middle."""
    rate, steps, lanes = 0.1, 20, _LANES // 2
    family = families.subsampled_gaussian(sampling_rate=rate, steps=steps)
    wrong = 0
    for _ in range(audits):
        readings = rng.standard_normal((2, lanes, steps))
        readings[1] += rng.random((lanes, steps)) < rate
        scores = np.log1p(rate * np.expm1(readings - 0.5)).sum(axis=2)
        alarms, misses = int(np.sum(scores[0] >= 0.3)), int(np.sum(scores[1] < 0.3))
        counts = Counts(alarms, lanes, misses, lanes)
        # More than the true noise is contradicted, so the bound is above the true epsilon.
        wrong += families.largest_noise(counts, family, confidence=1 - ERROR) < 1.0
    return wrong


def _steps(rng: np.random.Generator, audits: int) -> int:
    truth = gaussian.epsilon_from_mu(math.sqrt(10), DELTA)
    bounds = [
        step_level.epsilon_lower_bound(
            counts, sampling_rate=1, steps=10, delta=DELTA, confidence=1 - ERROR
        )
        for counts in _gaussian_counts(rng, audits)
    ]
    return sum(bound > truth for bound in bounds)


def _right_guesses(rng: np.random.Generator, audits: int, mechanism: Mechanism) -> list[int]:
    """How many of 100 guesses on 500 canaries are right, the surest guesses of each audit."""
    canaries, guesses = 500, 100
    if mechanism == "randomised response":
        right = rng.binomial(guesses, expit(1.0), size=audits)
        return [int(each) for each in right]
    inserted = rng.random((audits, canaries)) < 0.5
    scores = inserted - 0.5 + rng.standard_normal((audits, canaries))
    chosen = np.argsort(-np.abs(scores), axis=1)[:, :guesses]
    is_right = np.take_along_axis((scores > 0) == inserted, chosen, axis=1)
    return [int(each) for each in is_right.sum(axis=1)]


def _one_run(mechanism: Mechanism) -> Simulate:
    truth = 1.0 if mechanism == "randomised response" else gaussian.epsilon_from_mu(1.0, DELTA)

    def wrong(rng: np.random.Generator, audits: int) -> int:
        bounds = {
            right: one_run.epsilon_lower_bound(
                canaries=500, guesses=100, correct=right, delta=DELTA, confidence=1 - ERROR
            )
            for right in range(101)
        }
        return sum(bounds[right] > truth for right in _right_guesses(rng, audits, mechanism))

    return wrong


def _one_run_f_dp(rng: np.random.Generator, audits: int) -> int:
    bounds = {
        right: one_run_f_dp.mu_lower_bound(
            canaries=500, guesses=100, correct=right, confidence=1 - ERROR
        )
        for right in range(101)
    }
    return sum(bounds[right] > 1.0 for right in _right_guesses(rng, audits, "gaussian"))


def _ever_20(mechanism: Mechanism) -> Simulate:
    is_pure = mechanism == "randomised response"
    claimed = guarantee_curve(Guarantee(1.0, 1e-12)) if is_pure else gaussian_curve(1.0)
    process = e_process.start(e_process.claimed_wagers(claimed))

    def wrong(rng: np.random.Generator, audits: int) -> int:
        reached = 0
        for _ in range(audits):
            if is_pure:
                is_true = rng.random((2, 2_000)) < expit(1.0)
                pairs = np.where(is_true[0], 1.0, -1.0), np.where(is_true[1], -1.0, 1.0)
            else:
                pairs = _gaussian_pairs(1.0, 1.0, 2_000, rng)
            reached += bool((e_process.log_path(process, *pairs) >= math.log(20)).any())
        return reached

    return wrong


def _convention(mu: float) -> Simulate:
    def wrong(rng: np.random.Generator, audits: int) -> int:
        return sum(
            convention.best_threshold_mu(
                mu + rng.standard_normal(1_000), rng.standard_normal(1_000), confidence=1 - ERROR
            )
            > mu
            for _ in range(audits)
        )

    return wrong


def _credible(rng: np.random.Generator, audits: int) -> int:
    """The truth is what this threshold shows of mu = 1, which is less than its epsilon."""
    rate = float(ndtr(-0.5))
    truth = math.log((1 - rate - DELTA) / rate)
    intervals = [
        credible.epsilon_interval(counts, delta=DELTA) for counts in _gaussian_counts(rng, audits)
    ]
    return sum(not low <= truth <= high for low, high in intervals)


if __name__ == "__main__":
    sys.exit(main())
