"""What the demo shows of synthetic records: how good the model from them is, a page, a table."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from sordino.baselines import SiteRecords
from sordino.demo_comparison import quality_of
from sordino.demo_synthesis import SyntheticAttempt, SyntheticRuns
from sordino.result import SyntheticSection
from sordino.shared_report import render
from sordino.synthetic_frames import write_frame
from sordino.synthetic_release import read_release
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.schema import Schema
from sordino_server.runs import STATEMENT
from sordino_server.statement import Statement
from sordino_server.storage import write_whole

PAGE = "synthetic.html"
"""The synthesis' own page, beside the run's."""

TABLE = "synthetic.csv"
_INTEGER_BYTES = 4


def synthetic_section(
    attempt: SyntheticAttempt, records: Mapping[str, SiteRecords], schema: Schema
) -> SyntheticSection:
    """The part of the result that is about synthetic records.

    Args:
        attempt: the two runs, or why there are none.
        records: of all sites, which only a demo can look at.
        schema: of all sites.
    """
    runs = attempt.runs
    if runs is None:
        return _nothing(attempt.left_out)
    statement, job = runs.training.read(STATEMENT, Statement), runs.job
    scaled = {
        name: replace(site, scaling=runs.training.scaling()) for name, site in records.items()
    }
    release = read_release(runs.release)
    deviations = [each.units_std for each in release.facts.tables.values()]
    cells = sum(each.cells for each in release.plan.marginals)
    return {
        "run_id": runs.release.run_id,
        "training_run_id": runs.training.run_id,
        "epsilon_release": release.facts.epsilon_without_masks,
        "epsilon_evaluation": epsilon_by_pld(job.plan.event, job.file.guarantee.delta),
        "exact": quality_of(runs.training.model(), scaled, job, schema),
        "figures": {
            name: {"value": found.value, "interval": [found.lower, found.upper]}
            for name, found in statement.require_evaluation().metrics.items()
        },
        "units": release.units,
        "units_std": float(np.linalg.norm(deviations)),
        "cells": cells,
        "message_bytes": _INTEGER_BYTES * cells,
        "seconds": round(runs.seconds, 2),
        "left_out": "",
    }


def write_synthetic(attempt: SyntheticAttempt, root: Path) -> dict[str, str]:
    """Write the synthesis' page and a table of records; returns where they lie, by name."""
    runs = attempt.runs
    if runs is None:
        return {}
    release = read_release(runs.release)
    write_frame(release.frame(rng=np.random.default_rng()), root / TABLE)
    write_whole(root / PAGE, render(release, evaluation=_statement(runs)).encode())
    return {"synthetic_page": str(root / PAGE), "synthetic_records": str(root / TABLE)}


def _statement(runs: SyntheticRuns) -> Statement:
    return runs.training.read(STATEMENT, Statement)


def _nothing(left_out: str) -> SyntheticSection:
    return {
        "run_id": "",
        "training_run_id": "",
        "epsilon_release": 0.0,
        "epsilon_evaluation": 0.0,
        "exact": {},
        "figures": {},
        "units": 0.0,
        "units_std": 0.0,
        "cells": 0,
        "message_bytes": 0,
        "seconds": 0.0,
        "left_out": left_out,
    }
