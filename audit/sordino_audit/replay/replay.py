"""The replay of a job: federations run again with and without canaries, then attacked and judged.

Everything runs through the code that production runs, on made-up or public records, or on members'
at their own site.
"""

import os
from dataclasses import replace
from pathlib import Path

from sordino_audit.replay.assessment import assess
from sordino_audit.replay.backends import Backend, run_missing
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.portfolio import World
from sordino_audit.replay.records import ReplayRecords, make_records
from sordino_audit.replay.result import ReplayAudit
from sordino_audit.replay.store import ReplayStore
from sordino_client.training.noise import Noise, SecureNoise
from sordino_protocols.errors import InputError


def replay(
    plan: ReplayPlan,
    *,
    directory: Path,
    backend: Backend = "local",
    workers: int = 1,
    noise: Noise | None = None,
) -> ReplayAudit:
    """Run the federations of a plan that are yet to be run, and attack them all.

    Args:
        plan: what is run.
        directory: of the replay's files, one a federation; where it holds some of the same plan,
            the replay goes on.
        backend: "local" for this machine, "ray" for a Ray cluster (the extra `ray`): the one that
            `RAY_ADDRESS` names, else one that is started here.
        workers: processes at a time.
        noise: what the sites' releases rest on; None is `SecureNoise`, and anything else a fault
            that somebody plants.

    Raises:
        InputError: the job cannot be run, the directory holds something else, the backend is not
            installed, or members' records would leave their site.
        IntegrityError: a file of the replay is none of ours.
        UnreachableError: a worker died; the same call again goes on.
    """
    if workers < 1:
        raise InputError(f"a replay needs at least one worker, not {workers}")
    if plan.stays_below is not None and backend != "local":
        raise InputError("a replay of members' records stays at their site: use --backend local")
    started = _cpu_seconds()
    store = ReplayStore(directory, plan)
    records = make_records(plan)
    run_missing(
        store,
        directory,
        plan,
        records,
        backend=backend,
        workers=workers,
        noise=noise or SecureNoise(),
    )
    audit = assess(plan, [_world(plan, records, store, each) for each in plan.worlds])
    return replace(audit, seconds=_cpu_seconds() - started)


def _world(plan: ReplayPlan, records: ReplayRecords, store: ReplayStore, poisons: int) -> World:
    observations, judged = store.world(poisons), plan.design.judged
    return World(
        poisons=poisons,
        judged=tuple(observations[:judged]),
        others=tuple(observations[judged:]),
        canary_labels=records.canaries.labels,
        stranger_labels=records.strangers.labels,
        loss=plan.job.plan.require_training().loss,
    )


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
