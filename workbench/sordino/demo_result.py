"""What a demo knows that no real federation does, and everything else that it shows.

The demo holds every site's files, so it can measure how good the model is on all held-out records,
exactly, beside its rivals: all records in one place without privacy, and each site alone.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping

from sordino.baselines import (
    SiteRecords,
    alone_with_privacy,
    central_without_privacy,
    measure,
)
from sordino.exact_metrics import ExactMetrics
from sordino.finished import FinishedRun
from sordino.result import (
    BaselineSection,
    DemoResult,
    EvaluationSection,
    EventEntry,
    Quality,
    SiteSection,
)
from sordino_audit.finished_run import audit_run
from sordino_audit.report import document
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.data.table import split
from sordino_client.training.noise import SecureNoise
from sordino_client.vault import split_key
from sordino_deploy.local import Layout
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.errors import SordinoError
from sordino_protocols.job import Job
from sordino_protocols.privacy import event_from_json, mechanism
from sordino_server.runs import STATEMENT, RunDirectory
from sordino_server.statement import EvaluationFacts, ReceiptFacts, Statement

_CONFIDENCE = 0.95
_DESCRIPTIONS = {
    "poisson_gaussian": "rounds of training: the noisy sum of clipped gradients",
    "gaussian": "evaluation: a noisy histogram of scores on held-out records",
    "composed": "several releases together",
}


def measured(layout: Layout, finished: FinishedRun, *, started: float) -> DemoResult:
    """Audit the run, train its rivals, and put everything together.

    Args:
        layout: where the federation keeps what.
        finished: the run.
        started: when the demo began, by `time.monotonic`.
    """
    run, job = finished.run, finished.job
    statement = run.read(STATEMENT, Statement)
    audit = document(audit_run(run, confidence=_CONFIDENCE), run_id=run.run_id)
    records = _records(layout, job)
    federated = measure(run.model(), job.file.model, records)
    return DemoResult(
        run_id=run.run_id,
        job={
            "name": job.file.job.name,
            "epsilon": job.file.privacy.epsilon,
            "delta": job.file.privacy.delta,
            "model": job.file.model.kind,
            "rounds": job.plan.training.rounds,
        },
        sites=_sites(run, statement),
        rounds=len(finished.rounds),
        accuracy=federated.accuracy,
        auc=federated.auc,
        evaluation=_evaluation(statement.evaluation, job),
        baselines=_baselines(records, job),
        training=finished.rounds,
        audit=audit,
        seconds={
            "setup": round(finished.setup_seconds, 2),
            "rounds": round(finished.rounds_seconds, 2),
            "first_model": round(finished.setup_seconds + finished.rounds_seconds, 2),
            "total": round(time.monotonic() - started, 2),
        },
        report=str(layout.root / "report.html"),
        files={
            "model": str(run.path / "model.safetensors"),
            "statement": str(run.path / "statement.json"),
            "audit": str(run.path / "audit.json"),
            "job": str(layout.scientist / "job.toml"),
            "profile": str(layout.scientist / "profile.toml"),
            "logs": str(layout.logs),
        },
    )


def _records(layout: Layout, job: Job) -> dict[str, SiteRecords]:
    """Every site's records, split as the site split them: only a demo can look at these."""
    records: dict[str, SiteRecords] = {}
    for directory in sorted((layout.root / "sites").iterdir()):
        config = layout.site_config(directory.name)
        declared = read_dataset(config.site.datasets / "dataset.toml")
        key = split_key(config.site.state / "split.key")
        fraction = declared.dataset.holdout_fraction
        train, held_out = split(load_table(declared), fraction=fraction, key=key)
        order = declared.dataset.order_of_magnitude
        records[directory.name] = SiteRecords(train, held_out, order)
    if not records:
        raise SordinoError(f"job {job.file.job.name}: no site has records")
    return records


def _baselines(records: Mapping[str, SiteRecords], job: Job) -> BaselineSection:
    alone = alone_with_privacy(records, job, noise=SecureNoise())
    count = len(alone)
    return {
        "central": _quality(central_without_privacy(records, job.file.model)),
        "alone": {
            "mean": {
                "accuracy": sum(each.accuracy for each in alone.values()) / count,
                "auc": sum(each.auc for each in alone.values()) / count,
            },
            "sites": {name: _quality(each) for name, each in alone.items()},
        },
    }


def _quality(metrics: ExactMetrics) -> Quality:
    return {"accuracy": metrics.accuracy, "auc": metrics.auc}


def _sites(run: RunDirectory, statement: Statement) -> list[SiteSection]:
    refusals: Counter[str] = Counter()
    for event in run.events():
        refused = event.get("refusals")
        refusals.update(list(refused) if isinstance(refused, dict) else [])
    return [
        _site(name, receipt, refusals=refusals[name])
        for name, receipt in sorted(statement.receipts.items())
    ]


def _site(name: str, receipt: ReceiptFacts, *, refusals: int) -> SiteSection:
    events = [event_from_json(each) for each in json.loads(receipt.events_json)]
    counts = Counter(mechanism(event) for event in events)
    return {
        "name": name,
        "epsilon_planned": receipt.epsilon_planned,
        "epsilon_spent_pld": receipt.epsilon_spent_pld,
        "epsilon_spent_rdp": receipt.epsilon_spent_rdp,
        "budget_limit": receipt.budget_limit,
        "budget_left": receipt.budget_left,
        "delta": receipt.delta,
        "events": [
            EventEntry(mechanism=kind, description=_DESCRIPTIONS[kind], count=count)
            for kind, count in counts.items()
        ],
        "network_cut_off": receipt.network_cut_off,
        "refusals": refusals,
    }


def _evaluation(evaluation: EvaluationFacts, job: Job) -> EvaluationSection:
    negative, positive = evaluation.histogram
    return {
        "accuracy": evaluation.accuracy,
        "accuracy_interval": list(evaluation.accuracy_interval),
        "auc": evaluation.auc,
        "auc_interval": list(evaluation.auc_interval),
        "epsilon": epsilon_by_pld(job.plan.evaluation.event, job.file.guarantee.delta),
        "scores_histogram": {"negative": list(negative), "positive": list(positive)},
    }
