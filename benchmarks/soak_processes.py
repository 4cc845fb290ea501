"""Four sites and a server as processes, one job after the other: what each process holds.

The first half of the time warms up: caches fill, the allocator takes its share. What counts is how
fast memory grows in the second half, and how large what lies on disk becomes with every round.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.federation import RunningFederation, resident_megabytes, running_federation
from benchmarks.reporting import Context, Figure
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import resolve

ROUNDS_A_JOB = 20
MEGABYTES_AN_HOUR_BAR = 60.0
_SAMPLE_SECONDS = 5.0
_JOB = f"""
[job]
name = "soak"
kind = "train"
dataset = "heart"
[privacy]
unit = "record"
epsilon = 0.2
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = {ROUNDS_A_JOB}
sampling_rate = 1.0
clipping_norm = 0.5
[optimizer]
learning_rate = 1.0
[audit]
lanes = 100
[cohort]
quorum = 4
deadline_seconds = 600.0
"""


def soak_processes(*, seconds: float) -> tuple[list[Figure], Context]:
    """Run jobs one after the other for so long, and look at every process.

    Args:
        seconds: how long jobs are begun.

    Returns:
        Figures, and the context that they were measured in.
    """
    job = resolve(parse_toml(_JOB, JobFile, source="soak"))
    with running_federation() as running:
        began = time.monotonic()
        samples: list[tuple[float, Mapping[str, float]]] = []
        jobs = 0
        before = _bytes_below(running.federation.layout.root)
        while time.monotonic() - began < seconds:
            _one_job(running, job, samples, began=began)
            jobs += 1
        grown = _bytes_below(running.federation.layout.root) - before
    rounds = jobs * ROUNDS_A_JOB
    slopes = {name: _megabytes_an_hour(samples, name) for name in samples[0][1]}
    figures = [
        Figure(f"MB an hour, {name}, second half", slope, MEGABYTES_AN_HOUR_BAR, is_upper_bar=True)
        for name, slope in sorted(slopes.items())
    ]
    figures.append(Figure("kB on all disks together a round", grown / 1024 / rounds))
    context = {
        "jobs": jobs,
        "rounds": rounds,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "MB in the end": {name: round(size, 1) for name, size in samples[-1][1].items()},
    }
    return figures, context


def _one_job(
    running: RunningFederation,
    job: Job,
    samples: list[tuple[float, Mapping[str, float]]],
    *,
    began: float,
) -> None:
    run_id = running.connection.submit(job)
    for _ in running.connection.watch(run_id):
        now = time.monotonic() - began
        if not samples or now - samples[-1][0] > _SAMPLE_SECONDS:
            held = {name: resident_megabytes(child) for name, child in running.children.items()}
            samples.append((now, held))
    shown = running.connection.show(run_id)
    if shown["state"] != "done":
        raise SystemExit(f"run {run_id} did not finish: {shown}")


def _megabytes_an_hour(samples: list[tuple[float, Mapping[str, float]]], name: str) -> float:
    later = samples[len(samples) // 2 :]
    times, sizes = [at for at, _ in later], [held[name] for _, held in later]
    return float(np.polyfit(times, sizes, 1)[0]) * 3600


def _bytes_below(directory: Path) -> int:
    return sum(each.stat().st_size for each in directory.rglob("*") if each.is_file())
