"""Where the federations of a replay are run: here, on this machine's cores, or on a Ray cluster.

Which federation holds which canaries is fixed by the plan, so every backend gives the same
replay but for the noise. A worker has one thread and its own sites; what it finishes is kept at
once, so that a replay that is killed loses one federation a worker at most, and under Ray the few
that travel together.
"""

import importlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType
from typing import Literal, assert_never

from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.records import ReplayRecords
from sordino_audit.replay.shadow import Place, run_places
from sordino_audit.replay.store import ReplayStore
from sordino_client.training.noise import Noise
from sordino_protocols.errors import InputError, UnreachableError
from sordino_protocols.logs import configure_logging

Backend = Literal["local", "ray"]

_TOGETHER = 4
"""Federations that travel together under Ray: a job is priced once for all of them."""


def run_missing(
    store: ReplayStore,
    directory: Path,
    plan: ReplayPlan,
    records: ReplayRecords,
    *,
    backend: Backend,
    workers: int,
    noise: Noise,
) -> None:
    """Run every federation that a replay has not run yet.

    Args:
        store: of the replay.
        directory: the store's.
        plan: of the replay.
        records: of the plan.
        backend: where.
        workers: processes; under Ray the cores that a cluster started here has.
        noise: what the sites' releases rest on.

    Raises:
        InputError: the job cannot be run, or the backend is not installed.
        UnreachableError: a worker died; the same call again goes on.
    """
    missing = store.missing
    match backend:
        case "local" if workers == 1 or len(missing) <= 1:
            run_places(plan, records, missing, noise=noise, keep=store.keep)
        case "local":
            _run_in_processes(directory, plan, records, missing, workers=workers, noise=noise)
        case "ray":
            _run_on_ray(plan, records, missing, workers=workers, noise=noise, keep=store.keep)
        case _:
            assert_never(backend)


def _run_in_processes(
    directory: Path,
    plan: ReplayPlan,
    records: ReplayRecords,
    missing: Sequence[Place],
    *,
    workers: int,
    noise: Noise,
) -> None:
    parts = [tuple(missing[start::workers]) for start in range(min(workers, len(missing)))]
    # Spawned, not forked: a fork of a process with torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(len(parts), mp_context=context) as pool:
            done = [pool.submit(_work, directory, plan, records, part, noise) for part in parts]
            for each in done:
                each.result()
    except BrokenProcessPool:
        raise UnreachableError(
            "a worker of the replay died; the same command again goes on where it was"
        ) from None


def _work(
    directory: Path,
    plan: ReplayPlan,
    records: ReplayRecords,
    places: tuple[Place, ...],
    noise: Noise,
) -> None:
    configure_logging(level="warning")
    store = ReplayStore(directory, plan)
    run_places(plan, records, places, noise=noise, keep=store.keep)


def _run_on_ray(
    plan: ReplayPlan,
    records: ReplayRecords,
    missing: Sequence[Place],
    *,
    workers: int,
    noise: Noise,
    keep: Callable[[Place, bytes], None],
) -> None:
    ray = _imported_ray()
    is_ours = not ray.is_initialized()
    if is_ours and os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    elif is_ours:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        work = ray.remote(num_cpus=1)(_collect)
        given = ray.put((plan, records, noise))
        pending = [
            work.remote(given, tuple(missing[start : start + _TOGETHER]))
            for start in range(0, len(missing), _TOGETHER)
        ]
        while pending:
            done, pending = ray.wait(pending)
            for place, content in ray.get(done[0]):
                keep(place, content)
    finally:
        if is_ours:
            ray.shutdown()


def _collect(
    given: tuple[ReplayPlan, ReplayRecords, Noise], places: tuple[Place, ...]
) -> list[tuple[Place, bytes]]:
    plan, records, noise = given
    configure_logging(level="warning")
    kept: list[tuple[Place, bytes]] = []
    run_places(
        plan,
        records,
        places,
        noise=noise,
        keep=lambda place, content: kept.append((place, content)),
    )
    return kept


def _imported_ray() -> ModuleType:
    # It would tell its makers of every use.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise InputError(
            "--backend ray needs Ray, which is optional: pip install 'sordino[ray]'"
        ) from None
