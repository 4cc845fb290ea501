"""What pricing costs in time, and what the lifetime filter costs in epsilon.

The year is made up, but of what sites release: trainings on sampled batches, evaluations, tables
and counts. Of its cost three things are said: what the ledger's Rényi filter counts, which holds
when every job is chosen after seeing what came before; what full PLD composition says, which does
not; and what adding up epsilons would say. Times are of the processor: nothing here waits.
"""

import datetime as dt
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reporting import Figure
from sordino_client.ledger import Ledger
from sordino_protocols.accounting import composed_epsilon, epsilon_by_pld
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import (
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    ExponentialQuantile,
    Gaussian,
    Guarantee,
    PoissonGaussian,
)

PRICE_BAR = 50.0
CALIBRATION_BAR = 1.0
YEAR_DELTA = 1e-6
_JOB = """
[job]
name = "common"
kind = "train"
dataset = "heart"
[privacy]
unit = "record"
epsilon = {epsilon}
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = {rounds}
sampling_rate = {sampling_rate}
clipping_norm = 1.0
[optimizer]
learning_rate = 1.0
"""
_COMMON = (
    ("epsilon 1, 1,000 steps at .01", 1.0, 1000, 0.01),
    ("epsilon 3, 300 steps at .05", 3.0, 300, 0.05),
    ("epsilon 8, 200 steps at .1", 8.0, 200, 0.1),
    ("epsilon 3, 30 steps on all records", 3.0, 30, 1.0),
)
_SITE = """
import json, sys, time
from sordino_protocols.cross_check import check_accountants
from sordino_protocols.job import read_job
from sordino_protocols.pricing import price

def milliseconds(work):
    started = time.process_time()
    work()
    return 1e3 * (time.process_time() - started)

jobs = [read_job(line.encode()) for line in sys.stdin.read().splitlines()]
print(json.dumps({
    "new": [milliseconds(lambda: price(job)) for job in jobs],
    "again": [milliseconds(lambda: price(job)) for job in jobs],
    "checked": [milliseconds(lambda: check_accountants(job.plan.event, 1e-5)) for job in jobs[:4]],
}))
"""


def year() -> tuple[Event, ...]:
    """92 releases of one data set: 12 trainings, 52 evaluations, 12 tables, 12 counts, 4 bounds."""
    trainings = [PoissonGaussian(0.02 + 0.005 * month, 2.0, 60) for month in range(12)]
    evaluations = [DiscreteGaussian(24.0) for _ in range(52)]
    tables = [Gaussian(12.0) for _ in range(12)]
    counts = [DiscreteLaplace(20.0) for _ in range(12)]
    bounds = [ExponentialQuantile(0.05) for _ in range(4)]
    return (*trainings, *evaluations, *tables, *counts, *bounds)


def price_figures(*, repetitions: int) -> list[Figure]:
    """Milliseconds to price a job in a process that never saw it, as a site has to."""
    jobs = [_job(2.0 + 0.1 * number, 300, 0.05) for number in range(repetitions)]
    # The fourth is another plan altogether; the rest is one plan with other noise.
    jobs.insert(3, _job(4.0, 700, 0.02))
    bodies = b"\n".join(job.canonical() for job in jobs)
    done = subprocess.run(
        [sys.executable, "-c", _SITE], input=bodies, capture_output=True, check=True
    )
    taken = json.loads(done.stdout)
    first, *later = taken["new"]
    new, again = statistics.median(later), statistics.median(taken["again"])
    return [
        Figure("price a job that the site never saw, ms", new, PRICE_BAR, is_upper_bar=True),
        Figure("price a job again, ms", again, PRICE_BAR, is_upper_bar=True),
        Figure("price the first job of a process, ms", first),
        Figure(
            "ask the other accountants about a new job, ms", statistics.median(taken["checked"][1:])
        ),
    ]


def calibration_figures() -> list[Figure]:
    """Seconds to find the noise of a job that was never seen, for plans that people ask for."""
    _job(0.5, 10, 0.3)
    figures = []
    for name, epsilon, rounds, sampling_rate in _COMMON:
        started = time.process_time()
        _job(epsilon, rounds, sampling_rate)
        taken = time.process_time() - started
        figures.append(Figure(f"calibrate {name}, s", taken, CALIBRATION_BAR, is_upper_bar=True))
    return figures


def filter_figures(events: Sequence[Event]) -> list[Figure]:
    """Epsilon of a year, as the ledger's filter counts it and otherwise."""
    counted = _counted(events)
    tight = composed_epsilon(events, YEAR_DELTA)
    started = time.process_time()
    composed_epsilon((*events, Gaussian(11.0)), YEAR_DELTA)
    further = time.process_time() - started
    basic = sum(epsilon_by_pld(event, YEAR_DELTA / len(events)) for event in events)
    return [
        Figure("epsilon of a year by the ledger's filter", counted, basic / 2, is_upper_bar=True),
        Figure("epsilon of a year by full PLD composition", tight, counted, is_upper_bar=True),
        Figure("epsilon of a year by adding up", basic),
        Figure("what the filter costs, %", 100 * (counted / tight - 1)),
        Figure("PLD composition of one job more, ms", 1e3 * further),
    ]


def _counted(events: Sequence[Event]) -> float:
    """What a real ledger says is spent when a year is over."""
    budget = Guarantee(1e3, YEAR_DELTA)
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Ledger(Path(scratch) / "ledger.db", now=lambda: dt.datetime.now(dt.UTC))
        for number, event in enumerate(events):
            run_id = f"run-{number}"
            ledger.hold(
                run_id,
                dataset="heart",
                lineage="heart",
                event=event,
                budget=budget,
                policy_sha256="0" * 64,
            )
            ledger.reserve(run_id, "release", event, budget=budget)
            ledger.settle(run_id)
        spent = ledger.balance("heart", budget).spent
        ledger.close()
    return spent


def _job(epsilon: float, rounds: int, sampling_rate: float) -> Job:
    text = _JOB.format(epsilon=epsilon, rounds=rounds, sampling_rate=sampling_rate)
    return resolve(parse_toml(text, JobFile, source="benchmark"))
