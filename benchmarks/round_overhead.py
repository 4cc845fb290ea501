"""Seconds a round beyond the training itself: 4 sites, 17k parameters, real processes on loopback.

`python -m benchmarks.round_overhead [--json] [--rounds N]`. Every round goes the whole way: signed
header, SuperLink with its database, link, vault, reservation on disk, training, outbox on disk,
commit, signed answer, checks, aggregation, checkpoint on disk. From it is taken what training alone
takes for one site in this process, which is less than it takes in the federation, where four sites
share the cores: the figure is on the high side.
"""

import argparse
import datetime as dt
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.federation import (
    RunningFederation,
    maps_library,
    resident_megabytes,
    running_federation,
)
from benchmarks.reporting import Figure, report
from sordino import heart
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.training.clipping import Units
from sordino_client.training.noise import SecureNoise
from sordino_client.training.steps import train_round
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.models import initial_weights, parameter_count
from sordino_protocols.pricing import resolve

SECONDS_BAR = 1.0
IDLE_MEGABYTES_BAR = 120.0
_JOB = """
[job]
name = "round-overhead"
kind = "train"
dataset = "heart"
[privacy]
unit = "record"
epsilon = 4.0
delta = 1e-5
[model]
kind = "mlp"
hidden = [128, 100]
activation = "tanh"
[training]
rounds = {rounds}
sampling_rate = 1.0
clipping_norm = 0.5
[optimizer]
learning_rate = 1.0
[audit]
lanes = 500
[cohort]
quorum = 4
deadline_seconds = 120.0
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.round_overhead")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=30)
    chosen = parser.parse_args(arguments)
    job = resolve(parse_toml(_JOB.format(rounds=chosen.rounds), JobFile, source="round_overhead"))
    training = _training_seconds(job)
    with running_federation() as running:
        rounds = _round_seconds(running, job)
        links = [child for name, child in running.children.items() if name.endswith("-link")]
        megabytes = max(resident_megabytes(link) for link in links)
        heavy = sum(maps_library(link, name) for link in links for name in ("libtorch", "pandas"))
    median = statistics.median(rounds)
    figures = [
        Figure(
            "seconds a round beyond training", median - training, SECONDS_BAR, is_upper_bar=True
        ),
        Figure("largest link after a run, MB", megabytes, IDLE_MEGABYTES_BAR, is_upper_bar=True),
        Figure("links with torch or pandas in memory", float(heavy), 0.0, is_upper_bar=True),
    ]
    context = {
        "rounds": len(rounds),
        "seconds a round, median": round(median, 4),
        "seconds a round, slowest": round(max(rounds), 4),
        "seconds of training in one process": round(training, 4),
        "parameters": parameter_count(job.file.require_model(), _records().features.shape[1]),
        "lanes": job.plan.lanes,
        "sites": len(heart.ORDERS_OF_MAGNITUDE),
    }
    return report(figures, context, as_json=chosen.json)


def _round_seconds(running: RunningFederation, job: Job) -> list[float]:
    run_id = running.connection.submit(job)
    ends = [
        dt.datetime.fromisoformat(str(event["at"]))
        for event in running.connection.watch(run_id)
        if event["event"] == "round"
    ]
    if len(ends) != job.plan.rounds:
        raise SystemExit(f"run {run_id} did not finish: {running.connection.show(run_id)}")
    # From the end of one round to the end of the next: checkpoint and log are in it too.
    return [(after - before).total_seconds() for before, after in itertools.pairwise(ends)]


def _training_seconds(job: Job) -> float:
    """Median time of one round's training at the largest site, here and undisturbed."""
    records, plan = _records(), job.plan.require_training()
    units = Units(records.features, records.labels, np.arange(plan.lanes // 2, dtype=np.int64))
    spec = job.file.require_model()
    start = initial_weights(spec, records.features.shape[1], seed=b"benchmark")
    weights = np.concatenate([start, np.zeros(plan.extra_coordinates)])
    taken = []
    for _ in range(20):
        started = time.perf_counter()
        train_round(units, weights, spec, plan, expected_batch_size=300.0, noise=SecureNoise())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _records() -> Units:
    with tempfile.TemporaryDirectory() as scratch:
        table = load_table(read_dataset(heart.write_dataset("cleveland", Path(scratch))))
    return Units(table.features, table.labels, np.zeros(0, dtype=np.int64))


if __name__ == "__main__":
    sys.exit(main())
