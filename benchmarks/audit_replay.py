"""Replays: what a federation costs, and what attacks find with the claimed noise and with little.

`python -m benchmarks.audit_replay [--json] [--quick]`. Each federation has four sites of 60 made-up
records with 32 features and trains a logistic regression without sampling, so that records are
remembered if noise does not prevent it. The claim is epsilon = 4 at delta = 1e-5; the planted fault
leaves a hundredth of its noise. One more world has a wrongly labelled copy of each canary at
another site. CPU time includes that of worker processes; wall time, where it stands beside it,
depends on what else the machine does.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from benchmarks.reporting import Figure, report
from sordino_audit.findings import Severity
from sordino_audit.replay.coins import draw_coins
from sordino_audit.replay.plan import ReplayDesign, ReplayPlan, make_plan
from sordino_audit.replay.records import make_records
from sordino_audit.replay.replay import replay
from sordino_audit.replay.result import ReplayAudit
from sordino_audit.replay.shadow import Place, run_places
from sordino_audit.replay.store import ReplayStore
from sordino_client.training.noise import SecureNoise
from sordino_protocols.errors import ExitCode
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema

SECONDS_BAR = 2.0
REMEMBERED_BAR = 0.9
_KILLED_AFTER = 3

_SCHEMA = """
[dataset]
name = "signals"
version = 1
order_of_magnitude = 60
holdout_fraction = 0.2
[columns.signal]
type = "vector"
count = 32
min = -1
max = 1
[columns.ill]
type = "integer"
min = 0
max = 1
[roles]
label = "ill"
positive_above = 0
"""
_JOB = """
[job]
name = "replayed"
kind = "train"
dataset = "signals"
[privacy]
unit = "record"
epsilon = 4
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = {rounds}
sampling_rate = 1
clipping_norm = 1.0
[optimizer]
learning_rate = 4.0
[audit]
lanes = 32
"""


class LittleNoise(SecureNoise):
    """The planted fault: a hundredth of the noise, in a source that says it is secure."""

    def standard_normal(self, count: int) -> NDArray[np.float64]:
        """Too little."""
        return 0.01 * super().standard_normal(count)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run."""

    rounds: int
    federations: int
    is_quick: bool

    def plan(self, *, poisons: int = 0) -> ReplayPlan:
        """A plan of this size."""
        job = resolve(
            parse_toml(_JOB.format(rounds=self.rounds), JobFile, source="the benchmark's job")
        )
        schema = parse_toml(_SCHEMA, Schema, source="the benchmark's schema")
        design = ReplayDesign(
            seed=1,
            federations=self.federations,
            canaries=("typical", "mislabelled", "crafted"),
            canaries_per_kind=8,
            poisons=poisons,
        )
        return make_plan(job, schema, design)


FULL = Size(rounds=8, federations=32, is_quick=False)
QUICK = Size(rounds=3, federations=8, is_quick=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit_replay")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few federations, few bars")
    parser.add_argument("--killed", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.killed is not None:
        _run_until_killed(chosen.killed)
    started = _cpu_seconds()
    found = figures(quick=chosen.quick)
    taken = round(_cpu_seconds() - started, 1)
    return report(found, {"CPU seconds": taken}, as_json=chosen.json)


def figures(*, quick: bool) -> list[Figure]:
    """Everything, each figure beside its bar."""
    size = QUICK if quick else FULL
    with _quiet(), tempfile.TemporaryDirectory(prefix="sordino-benchmark-") as name:
        directory = Path(name)
        return [
            *_clean(size, directory),
            *_faulty(size, directory),
            *([] if quick else _two_workers(directory)),
            *([] if quick else _killed(directory)),
        ]


def _clean(size: Size, directory: Path) -> list[Figure]:
    """The product's code, with the noise that it claims."""
    audit = replay(size.plan(), directory=directory / "clean")
    seconds = audit.seconds / audit.federations
    claim = audit.claim.epsilon
    return [
        Figure(
            f"CPU seconds a federation (4 sites, {size.rounds} rounds, attacks included)",
            seconds,
            SECONDS_BAR,
            is_upper_bar=True,
        ),
        Figure("federations a CPU minute", 60 / seconds),
        Figure(
            "violations found with the claimed noise",
            sum(each.severity is Severity.VIOLATION for each in audit.findings),
            0,
            is_upper_bar=True,
        ),
        Figure(
            f"lower bound with the claimed noise, epsilon = {claim:g}, 95 %",
            audit.lower_bound,
            claim,
            is_upper_bar=True,
        ),
        *_aucs(audit, "the claimed noise"),
        Figure("smallest lack of noise found with probability .9, %", 100 * audit.detectable),
    ]


def _faulty(size: Size, directory: Path) -> list[Figure]:
    """A hundredth of the noise, without poisons and with one a canary."""
    plan = size.plan(poisons=0 if size.is_quick else 1)
    audit = replay(plan, directory=directory / "faulty", noise=LittleNoise())
    bar = None if size.is_quick else REMEMBERED_BAR
    found = [
        Figure("exit code with 1/100 of the noise", audit.exit_code, ExitCode.AUDIT_VIOLATION),
        *_aucs(audit, "1/100 of the noise", bar=bar),
    ]
    if size.is_quick:
        return found
    return found + [
        Figure(
            f"AUC of online LiRA on {each.kind} canaries, "
            f"{'a poison a canary' if each.poisons else 'no poisons'}",
            each.auc,
        )
        for each in audit.kinds
    ]


def _aucs(audit: ReplayAudit, words: str, *, bar: float | None = None) -> list[Figure]:
    """Of every attack in the world without poisons; the bar is for the likelihood ratio's."""
    return [
        Figure(
            f"AUC of {each.name}, {words}",
            each.auc,
            bar if each.name.startswith("LiRA, online") else None,
        )
        for each in audit.attacks
        if "poisons a canary" not in each.name
    ]


def _two_workers(directory: Path) -> list[Figure]:
    """The same replay by one process and by two, their starts included."""
    plan = replace(FULL, federations=16).plan()
    taken: list[tuple[float, float]] = []
    for workers in (1, 2):
        started, cpu = time.perf_counter(), _cpu_seconds()
        replay(plan, directory=directory / f"workers-{workers}", workers=workers)
        taken.append((time.perf_counter() - started, _cpu_seconds() - cpu))
    (one_wall, one_cpu), (two_wall, two_cpu) = taken
    return [
        Figure("wall time of one worker over that of two", one_wall / two_wall),
        Figure("CPU time of two workers over that of one", two_cpu / one_cpu),
    ]


def _killed(directory: Path) -> list[Figure]:
    """A replay that is killed after three federations, and goes on."""
    place, plan = directory / "killed", QUICK.plan()
    command = [sys.executable, "-m", "benchmarks.audit_replay", "--killed", str(place)]
    ended = subprocess.run(command, check=False, capture_output=True)
    store = ReplayStore(place, plan)
    kept = len(store.places) - len(store.missing)
    replay(plan, directory=place)
    coins = np.stack([each.inserted for each in store.world(0)])
    is_same = ended.returncode == -signal.SIGKILL and np.array_equal(
        coins, draw_coins(plan.design, world=0)
    )
    return [
        Figure("federations kept by a replay that was killed after 3", kept, _KILLED_AFTER),
        Figure("whether it went on with the same design", float(is_same), 1.0),
    ]


def _run_until_killed(directory: Path) -> None:
    plan = QUICK.plan()
    store = ReplayStore(directory, plan)

    def keep(place: Place, content: bytes) -> None:
        store.keep(place, content)
        if place.index + 1 == _KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    run_places(plan, make_records(plan), store.missing, noise=SecureNoise(), keep=keep)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing but warnings in the logs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.reset_defaults()


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(main())
