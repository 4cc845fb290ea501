"""What the canary lanes of one run prove, and what they cost.

`python -m benchmarks.audit_lanes [--quick] [--json]`

Every run is the real engine with secure noise, a real witness and canaries in every parameter
group; nothing is simulated. The claim is that of the training alone, so that the ceiling is the
claim. Bounds are shown in rising order of what they assume, each over the claimed epsilon:

- run level, as a server sees it, at 95 %: assuming nothing; within the mechanism's family, Gaussian
  noise of any scale; and by the measured scale of the noise, clipping and sampling as planned;
- step level, as a site sees it, at 99.9 %: by counts, Gaussian noise of any scale composed at the
  claimed sampling rate; and by the measured noise and clipping, composed the same way. The median
  of three runs.

Cost is measured on scikit-learn's digits by a job with 2,000 lanes and without, through the real
site and server code: accuracy where both draw the same coins and noise for the same record and
coordinate, and where both draw secure noise of their own; CPU time of rounds in turns.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.reporting import Figure, report
from benchmarks.utility_data import Split, read_digits
from benchmarks.utility_training import score
from sordino_audit.lanes import LaneReadings, audit_lanes
from sordino_audit.site_audit import ObservedRun, SiteAudit, audit_steps
from sordino_client.training.noise import Noise, SecureNoise
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_client.witness import RoundNotes, RoundSeen
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.calibration import calibrate
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.models import (
    MlpSpec,
    initial_weights,
    parameter_count,
    parameter_groups,
)
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import Guarantee, PoissonGaussian
from sordino_server.aggregation import aggregate
from sordino_server.optimizers import advance, initial_state, released_weights

Floats = NDArray[np.float64]

DELTA = 1e-5
SAMPLING_RATE, STEPS = 0.01, 1000
STEP_BARS = {10_000: 0.93, 2_000: 0.85}
RUN_BAR = 0.65
TIME_BAR = 1.30
LANES_OF_COST = 2_000

_MODEL = MlpSpec(kind="mlp", hidden=(16,), activation="tanh")
_FEATURES, _RECORDS = 8, 500
_EPSILONS = (1.0, 2.0, 4.0, 8.0)
_RUNS, _REPEATS, _TURNS = 3, 5, 60
_JOB = """
[job]
name = "cost-of-lanes"
kind = "train"
dataset = "digits"
[privacy]
unit = "record"
epsilon = 4
delta = 1e-5
[model]
kind = "mlp"
hidden = [64]
activation = "tanh"
outputs = 10
[training]
loss = "cross_entropy"
rounds = 60
sampling_rate = 0.1
clipping_norm = 0.5
[optimizer]
learning_rate = 2.0
[audit]
lanes = {lanes}
[cohort]
quorum = 1
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; step-level figures are the median of `runs`."""

    epsilons: tuple[float, ...]
    lanes: tuple[int, ...]
    steps: int
    runs: int
    repeats: int
    turns: int


FULL = Size(_EPSILONS, (10_000, 2_000), STEPS, _RUNS, _REPEATS, _TURNS)
QUICK = Size((4.0,), (2_000,), STEPS, 1, 1, 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit_lanes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    chosen = parser.parse_args(arguments)
    started = time.process_time()
    found = figures(quick=chosen.quick)
    taken = round(time.process_time() - started, 1)
    return report(found, {"CPU seconds": taken, "delta": DELTA}, as_json=chosen.json)


def figures(*, quick: bool) -> list[Figure]:
    """Everything, each figure beside its bar."""
    size = QUICK if quick else FULL
    found = [
        figure
        for lanes in size.lanes
        for epsilon in size.epsilons
        for figure in _strength(epsilon, lanes, size)
    ]
    return found + _cost(size)


# --- what lanes prove -------------------------------------------------------------------------


def _strength(epsilon: float, lanes: int, size: Size) -> list[Figure]:
    plan = plan_of(epsilon, lanes, size.steps)
    claim = Guarantee(epsilon_by_pld(plan.event, DELTA), DELTA)
    label = f"epsilon {epsilon:.0f}, {lanes:,} lanes"
    audits = []
    for repeat in range(size.runs):
        coins = np.random.default_rng([lanes, repeat]).random(lanes) < 0.5
        run = ObservedRun(f"run-{repeat}", "site", plan, claim, coins)
        rounds = observe(run)
        audits.append(audit_steps(rounds, run, confidence=0.999))
    return [*_run_level(run, rounds, label), *_step_level(audits, label)]


def _step_level(audits: Sequence[SiteAudit], label: str) -> list[Figure]:
    """The median of all runs."""
    by_step, measured = (
        statistics.median(each.bounds[index].epsilon_low / each.claim.epsilon for each in audits)
        for index in (2, 3)
    )
    bar = STEP_BARS[audits[0].plan.lanes]
    return [
        Figure(f"step level, {label}: by counts", by_step, bar),
        Figure(f"step level, {label}: by measured noise and clipping", measured),
        Figure(
            f"step level, {label}: findings of clean runs",
            sum(len(each.findings) for each in audits),
        ),
    ]


def _run_level(run: ObservedRun, rounds: Sequence[RoundSeen], label: str) -> list[Figure]:
    """One run."""
    readings = np.stack([each.steps[0].readings for each in rounds]).astype(np.float64)
    seen = LaneReadings(run.site, readings, run.inserted)
    audit = audit_lanes([seen], run.plan, claim=run.claim, confidence=0.95)
    free, family, measured = (bound.epsilon_low / run.claim.epsilon for bound in audit.bounds)
    has_bar = run.plan.lanes == max(STEP_BARS) and run.claim.epsilon > 1.5
    return [
        Figure(f"run level, {label}: nothing assumed", free),
        Figure(f"run level, {label}: within the family", family, RUN_BAR if has_bar else None),
        Figure(f"run level, {label}: by measured noise", measured),
    ]


@lru_cache(maxsize=8)
def _noise_multiplier(epsilon: float, steps: int) -> float:
    return calibrate(
        lambda noise: PoissonGaussian(SAMPLING_RATE, noise, steps), Guarantee(epsilon, DELTA)
    )


def plan_of(epsilon: float, lanes: int, steps: int) -> TrainingPlan:
    """The training that costs this epsilon: a step a round."""
    return TrainingPlan(
        sampling_rate=SAMPLING_RATE,
        noise_multiplier=_noise_multiplier(epsilon, steps),
        clipping_norm=1.0,
        rounds=steps,
        local_steps=1,
        local_learning_rate=0.1,
        lanes=lanes,
        lane_groups=parameter_groups(_MODEL),
    )


def observe(run: ObservedRun) -> list[RoundSeen]:
    """All rounds of a run of the engine, as its site notes them."""
    rng, plan = np.random.default_rng(0), run.plan
    features = rng.uniform(-1, 1, (_RECORDS, _FEATURES)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.float32)
    units = Units(features, labels, np.flatnonzero(run.inserted))
    weights = np.zeros(parameter_count(_MODEL, _FEATURES) + plan.extra_coordinates)
    rounds = []
    for number in range(1, plan.rounds + 1):
        notes = RoundNotes()
        train_round(
            units,
            weights,
            _MODEL,
            plan,
            expected_batch_size=SAMPLING_RATE * _RECORDS,
            noise=SecureNoise(),
            witness=notes,
        )
        rounds.append(RoundSeen(number, notes.steps))
    return rounds


# --- what lanes cost --------------------------------------------------------------------------


@dataclass
class PairedNoise:
    """The same randomness for the same unit or coordinate of a draw, however many follow.

    It can be repeated, so it is for measuring what lanes change, and nothing made of it is private.
    """

    seed: int
    _draws: int = field(default=0, init=False)

    @property
    def is_secure(self) -> bool:
        """Never."""
        return False

    def standard_normal(self, count: int) -> Floats:
        """`count` repeatable draws from N(0, 1)."""
        return self._next().standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        """`count` repeatable draws, rounded from a Gaussian."""
        return np.rint(self._next().normal(0, noise_std, count)).astype(np.int64)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        """`count` repeatable coins."""
        return np.asarray(self._next().random(count) < probability)

    def _next(self) -> np.random.Generator:
        self._draws += 1
        return np.random.default_rng([self.seed, self._draws])


def _cost(size: Size) -> list[Figure]:
    split = read_digits(seed=0)
    if split is None:
        return []
    with_lanes, without = _job(LANES_OF_COST), _job(0)
    paired = [
        _accuracy(with_lanes, split, PairedNoise(seed))
        - _accuracy(without, split, PairedNoise(seed))
        for seed in range(size.repeats)
    ]
    fresh = [
        (_accuracy(with_lanes, split, SecureNoise()), _accuracy(without, split, SecureNoise()))
        for _ in range(size.repeats)
    ]
    return [
        Figure(
            "accuracy lost to 2,000 lanes, paired coins and noise, largest of all seeds",
            max(abs(each) for each in paired),
            0.0,
            is_upper_bar=True,
        ),
        Figure("accuracy with 2,000 lanes, secure noise", _mean(a for a, _ in fresh)),
        Figure("accuracy without lanes, secure noise", _mean(b for _, b in fresh)),
        Figure(
            "CPU time of a round with 2,000 lanes over one without",
            _time_ratio(with_lanes, without, split, size.turns),
            TIME_BAR,
            is_upper_bar=True,
        ),
    ]


@lru_cache(maxsize=2)
def _job(lanes: int) -> Job:
    return resolve(parse_toml(_JOB.format(lanes=lanes), JobFile, source="job.toml"))


def _accuracy(job: Job, split: Split, noise: Noise) -> float:
    """On test records, after all rounds at one site and the server's own steps."""
    plan, units = job.plan.require_training(), _units(job, split)
    count = len(split.train)
    start = initial_weights(job.file.require_model(), split.train.features.shape[1], seed=b"0")
    state = initial_state(start, plan)
    for _ in range(plan.rounds):
        update = _round(job, units, state.weights, noise)
        state = advance(
            state,
            aggregate([update], [count], plan),
            plan=plan,
            optimizer=job.file.require_optimizer(),
            seed=b"0",
        )
    return score(released_weights(state, plan), job.file, split.test).accuracy


def _time_ratio(first: Job, second: Job, split: Split, turns: int) -> float:
    """Median CPU time of a round by the first job over the second's, taken in turns."""
    taken: dict[int, list[float]] = {0: [], 1: []}
    prepared = [(job, _units(job, split), _weights(job, split)) for job in (first, second)]
    for _ in range(turns):
        for index, (job, units, weights) in enumerate(prepared):
            started = time.process_time()
            _round(job, units, weights, SecureNoise())
            taken[index].append(time.process_time() - started)
    return statistics.median(taken[0]) / statistics.median(taken[1])


def _round(job: Job, units: Units, weights: Floats, noise: Noise) -> Floats:
    plan = job.plan.require_training()
    return train_round(
        units,
        weights,
        job.file.require_model(),
        plan,
        expected_batch_size=plan.sampling_rate * units.with_records,
        noise=noise,
        witness=RoundNotes(),
    ).vector


def _units(job: Job, split: Split) -> Units:
    """The training records, and a canary in every second lane."""
    lanes = np.arange(0, job.plan.lanes, 2)
    return Units(split.train.features, split.train.labels, lanes)


def _weights(job: Job, split: Split) -> Floats:
    start = initial_weights(job.file.require_model(), split.train.features.shape[1], seed=b"0")
    return np.concatenate([start, np.zeros(job.plan.extra_coordinates)])


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


if __name__ == "__main__":
    sys.exit(main())
