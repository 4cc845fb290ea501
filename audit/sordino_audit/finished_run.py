"""The audit of a run that lies on the server's disk: its readings, and the coins the sites opened.

A site whose coins do not match its commitment is a violation. One that missed a round, or that
never opened its coins, cannot be audited: `sites_left_out` names it, for the report to say so.
"""

from collections.abc import Collection, Sequence

import numpy as np

from sordino_audit.e_values import Weigh, weigh_alone
from sordino_audit.findings import Finding, Severity
from sordino_audit.lanes import LaneAudit, LaneReadings, audit_lanes
from sordino_audit.reveals import Reveal, check_reveal
from sordino_protocols.errors import InputError
from sordino_protocols.plan import TrainingPlan
from sordino_server.runs import STATEMENT, RunDirectory
from sordino_server.statement import Statement


def audit_run(
    run: RunDirectory,
    *,
    confidence: float,
    known: Sequence[Finding] = (),
    weigh: Weigh = weigh_alone,
) -> LaneAudit:
    """Audit the lanes of a finished run against the guarantee that its job claims.

    Args:
        run: a run that is done.
        confidence: of every bound on epsilon.
        known: findings of other checks, which count in the verdict.
        weigh: makes e-values of the evidence; `EValueStore.weigh` counts earlier runs as well.

    Raises:
        NotFoundError: the run is not finished.
        InputError: the run carried no lanes, or no site can be audited.
    """
    job = run.job()
    plan = job.plan.require_training()
    if plan.lanes < 1:
        raise InputError(f"run {run.run_id} carried no canary lanes; set audit.lanes in the job")
    reveals = _reveals(run, plan)
    findings = [*known, *_check_commitments(run, reveals)]
    observations = _observations(run, plan, reveals)
    if not observations:
        raise InputError(f"run {run.run_id}: no site answered every round and opened its coins")
    return audit_lanes(
        observations,
        plan,
        claim=job.file.guarantee,
        confidence=confidence,
        known=findings,
        weigh=weigh,
    )


def sites_left_out(run: RunDirectory, audited: Collection[str]) -> tuple[str, ...]:
    """The sites that took part in a finished run and are not among the `audited`.

    They missed a round, or opened no coins that fit, so nothing is known of them.

    Raises:
        NotFoundError: the run is not finished.
    """
    admitted = run.read(STATEMENT, Statement).admissions
    return tuple(sorted(set(admitted) - set(audited)))


def _reveals(run: RunDirectory, plan: TrainingPlan) -> list[Reveal]:
    receipts = run.read(STATEMENT, Statement).receipts
    return [
        Reveal(
            site=site,
            inserted=_coins(receipt.coins, plan.lanes),
            salt=bytes.fromhex(receipt.coins_salt),
        )
        for site, receipt in sorted(receipts.items())
    ]


def _coins(packed: str, lanes: int) -> tuple[bool, ...]:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(packed), dtype=np.uint8))
    # Coins that are too few or too many match no commitment; they are judged there.
    return tuple(bool(bit) for bit in bits[:lanes])


def _check_commitments(run: RunDirectory, reveals: list[Reveal]) -> list[Finding]:
    admissions = run.read(STATEMENT, Statement).admissions
    findings: list[Finding] = []
    for reveal in reveals:
        commitment = admissions[reveal.site].coins_commitment
        finding = check_reveal(reveal, commitment, run_id=run.run_id)
        findings += [finding] if finding is not None else []
    silent = sorted(set(admissions) - {reveal.site for reveal in reveals})
    return findings + [
        Finding("coins", Severity.SUSPECT, f"site {site} was admitted and never opened its coins")
        for site in silent
    ]


def _observations(
    run: RunDirectory, plan: TrainingPlan, reveals: list[Reveal]
) -> list[LaneReadings]:
    rounds = list(run.readings())
    return [
        LaneReadings(
            site=reveal.site,
            # Kept as if every round had had the plan's norm, also where the norm adapts.
            readings=np.stack([each[reveal.site] for each in rounds]).astype(np.float64)
            / plan.clipping_norm,
            inserted=np.array(reveal.inserted, dtype=np.bool_),
        )
        for reveal in reveals
        if len(rounds) == plan.rounds
        and all(reveal.site in each for each in rounds)
        and len(reveal.inserted) == plan.lanes
    ]
