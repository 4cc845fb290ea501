"""A made-up but plausible result of a run, its audit a real one of simulated readings."""

import datetime as dt
import sys
from functools import cache
from pathlib import Path

import numpy as np

from sordino.result import EventEntry, Quality, RoundEntry, RunResult, SiteSection
from sordino_audit.lanes import LaneAudit, LaneReadings, audit_lanes
from sordino_audit.occasion import Occasion
from sordino_audit.report import run_document
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

ROUNDS = 30
OCCASION = Occasion(dt.datetime(2026, 11, 22, tzinfo=dt.UTC), seconds=1.5)
SITES = ("Cleveland", "Budapest", "Zürich", "Long Beach")


def plausible_run(*, noise_ratio: float = 1.0) -> RunResult:
    spent = [3.7 * (number / ROUNDS) ** 0.62 for number in range(1, ROUNDS + 1)]
    return RunResult(
        run_id="7f3a-19c2",
        job={
            "name": "Heart disease, four hospitals",
            "unit": "record",
            "epsilon": 4.0,
            "delta": 1e-4,
            "model": "logistic regression, 22 inputs",
            "rounds": ROUNDS,
            "errors_in": "",
        },
        sites=[_site(name, 12.0 - 0.6 * index) for index, name in enumerate(SITES)],
        rounds=ROUNDS,
        exact={"accuracy": 0.812, "auc": 0.886},
        evaluation={
            "loss": "binary",
            "figures": {
                "accuracy": {"value": 0.801, "interval": [0.752, 0.85]},
                "auc": {"value": 0.879, "interval": [0.83, 0.921]},
            },
            "epsilon": 0.9,
            "counts": [
                [38.0, 30, 21, 12, 9, 4, -2, 3, 1, -1],
                [1.0, -3, 5, 4, 9, 11, 17, 24, 33, 41],
            ],
            "label_scale": 1.0,
        },
        baselines={
            "central": {"accuracy": 0.838, "auc": 0.907},
            "alone": {
                "mean": {"accuracy": 0.741, "auc": 0.803},
                "sites": {name: _alone(index) for index, name in enumerate(SITES)},
            },
            "left_out": [],
        },
        training=[
            RoundEntry(
                round=number,
                epsilon_spent=epsilon,
                update_norm=2.1 / number**0.5,
                seconds=0.4,
                participants=4,
            )
            for number, epsilon in enumerate(spent, start=1)
        ],
        audit=run_document(_audit(noise_ratio), run_id="7f3a-19c2", occasion=OCCASION),
        seconds={"setup": 9.4, "rounds": 14.8, "first_model": 24.2, "total": 31.0},
    )


def _site(name: str, limit: float) -> SiteSection:
    return SiteSection(
        name=name,
        epsilon_planned=4.0,
        epsilon_spent_pld=3.93,
        epsilon_spent_rdp=4.41,
        budget_limit=limit,
        budget_left=limit - 4.41,
        delta=1e-4,
        events=[
            EventEntry(
                mechanism="poisson_gaussian",
                description="model update with noise",
                count=ROUNDS,
            ),
            EventEntry(mechanism="gaussian", description="score histogram with noise", count=1),
        ],
        network_cut_off=True,
        refusals=0,
    )


def _alone(index: int) -> Quality:
    return {"accuracy": 0.70 + 0.03 * index, "auc": 0.76 + 0.028 * index}


@cache
def _audit(noise_ratio: float) -> LaneAudit:
    rng = np.random.default_rng(40)
    plan = TrainingPlan(1.0, 5.6, 1.0, ROUNDS, 1, 0.1, 500)
    observations = []
    for name in SITES:
        inserted = rng.random(plan.lanes) < 0.5
        noise = rng.normal(0, plan.noise_multiplier * noise_ratio, (ROUNDS, plan.lanes))
        observations.append(LaneReadings(name, (noise + inserted)[:, None], inserted))
    return audit_lanes(observations, plan, claim=Guarantee(4.0, 1e-4), confidence=0.95)


if __name__ == "__main__":
    from sordino.page import write

    write(plausible_run(noise_ratio=float(sys.argv[2])), Path(sys.argv[1]))
