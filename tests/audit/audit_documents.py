"""Documents of every kind, made of audits of simulated readings or made-up facts."""

import datetime as dt
from functools import cache

import numpy as np
from lane_simulation import claim_of, simulate, training_plan

from sordino_audit.audit_document import AuditDocument
from sordino_audit.audit_entries import EValueEntry
from sordino_audit.findings import ProbeOutcome, Verdict
from sordino_audit.lanes import LaneAudit, audit_lanes
from sordino_audit.occasion import Occasion
from sordino_audit.probes.self_test import SelfTest
from sordino_audit.report import run_document
from sordino_audit.report_code import self_test_document
from sordino_audit.sealing import sealed

OCCASION = Occasion(dt.datetime(2026, 11, 22, 9, 30, tzinfo=dt.UTC), seconds=1.5)
RUN_ID = "train-20261122-090000-0123abcd"


@cache
def lane_audit(
    *, noise_ratio: float = 1.0, lanes: int = 100, rounds: int = 20, sites: int = 2
) -> LaneAudit:
    plan = training_plan(lanes=lanes, rounds=rounds)
    observations = simulate(plan, np.random.default_rng(30), noise_ratio=noise_ratio, sites=sites)
    return audit_lanes(observations, plan, claim=claim_of(plan), confidence=0.95)


def of_a_run(
    *, noise_ratio: float = 1.0, lanes: int = 100, rounds: int = 20, sites: int = 2
) -> AuditDocument:
    audit = lane_audit(noise_ratio=noise_ratio, lanes=lanes, rounds=rounds, sites=sites)
    return run_document(audit, run_id=RUN_ID, occasion=OCCASION)


def of_an_installation(*, is_passed: bool = True) -> AuditDocument:
    outcomes = (
        ProbeOutcome(
            "clipping", is_passed=True, message="nothing moved a step too far", seconds=0.1
        ),
        ProbeOutcome("fields", is_passed=is_passed, message="fields are declared", seconds=0.02),
    )
    verdict = Verdict.LOOSE if is_passed else Verdict.VIOLATION
    found = SelfTest(outcomes, "ab" * 32, 0.12, verdict, "Missing noise of 3 % or more.")
    return self_test_document(found, subject="north", occasion=OCCASION)


def with_e_values(document: AuditDocument) -> AuditDocument:
    entries = tuple(
        EValueEntry(
            site=site,
            test="canaries in pairs",
            log10_value=history[-1],
            pairs=50 * len(history),
            history=history,
        )
        for site, history in {"north": (0.1, 0.8, 1.5), "south": (-0.1, -0.2, 0.05)}.items()
    )
    return sealed(document.model_copy(update={"e_values": entries}))
