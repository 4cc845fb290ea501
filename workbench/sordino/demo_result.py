"""What a demo knows that no real federation does, and everything else that it shows.

The demo holds every site's files, so it can measure how good the model is on all held-out records,
exactly, beside its rivals: all records in one place without privacy, and each site alone.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from sordino.baselines import SiteRecords
from sordino.demo_comparison import compare, quality_of
from sordino.demo_synthetic_result import PAGE, synthetic_section, write_synthetic
from sordino.finished import FinishedRun
from sordino.result import DemoResult, EvaluationSection, EventEntry, JobSection, SiteSection
from sordino_audit.audit_runs import AUDIT, audited
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.loading import split_key
from sordino_client.data.table import split
from sordino_client.training.noise import SecureNoise
from sordino_deploy.local import Layout
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.columns import CategoryColumn
from sordino_protocols.job import Job
from sordino_protocols.privacy import Mechanism, event_from_json, mechanism
from sordino_protocols.schema import Schema
from sordino_server.runs import CERTIFICATE, STATEMENT, RunDirectory
from sordino_server.statement import EvaluationFacts, ReceiptFacts, Statement

AUDIT_PAGE = "audit.html"
"""The audit's own page, beside the run's."""

_CONFIDENCE = 0.95
_DESCRIPTIONS: Mapping[Mechanism, str] = {
    "poisson_gaussian": "rounds of training: the noisy sum of clipped gradients",
    "gaussian": "noisy statistics of features",
    "discrete_gaussian": "noisy counts: the evaluation on held-out records",
    "laplace": "noisy numbers",
    "discrete_laplace": "noisy counts",
    "exponential_quantile": "noisy quantiles",
    "composed": "several releases together",
    "self_composed": "one release, repeated",
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
    declared = declared_sites(layout)
    schema = next(iter(declared.values())).public
    audit = audited(run, confidence=_CONFIDENCE)
    records = {
        name: replace(_records(layout, name, each), scaling=run.scaling())
        for name, each in declared.items()
    }
    exact = quality_of(run.model(), records, job, schema)
    synthetic_files = write_synthetic(finished.synthetic, layout.root)
    result = DemoResult(
        run_id=run.run_id,
        job=_job(job, schema),
        sites=_sites(run, statement),
        rounds=len(finished.rounds),
        exact=exact,
        evaluation=_evaluation(statement.require_evaluation(), job),
        baselines=compare(records, job, schema, noise=SecureNoise()),
        training=finished.rounds,
        audit=audit,
        audit_page=AUDIT_PAGE,
        synthetic=synthetic_section(finished.synthetic, records, schema),
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
            "audit": str(run.path / AUDIT),
            "audit_page": str(layout.root / AUDIT_PAGE),
            "certificate": str(layout.root / CERTIFICATE),
            "job": str(layout.scientist / "job.toml"),
            "profile": str(layout.scientist / "profile.toml"),
            "logs": str(layout.logs),
            **synthetic_files,
        },
    )
    if synthetic_files:
        result["synthetic_page"] = PAGE
    if "accuracy" in exact:
        result["accuracy"] = exact["accuracy"]
    if "auc" in exact:
        result["auc"] = exact["auc"]
    return result


def declared_sites(layout: Layout) -> dict[str, DatasetFile]:
    """What each site of a demo declares, by name."""
    folders = sorted((layout.root / "sites").iterdir())
    return {
        folder.name: read_dataset(layout.site_config(folder.name).site.datasets / "dataset.toml")
        for folder in folders
    }


def _records(layout: Layout, name: str, declared: DatasetFile) -> SiteRecords:
    """A site's records, split as the site split them: only a demo can look at these."""
    key = split_key(layout.site_config(name).site.state / "split.key")
    fraction = declared.dataset.holdout_fraction
    train, held_out = split(load_table(declared), fraction=fraction, key=key)
    return SiteRecords(train, held_out, declared.dataset.order_of_magnitude)


def _job(job: Job, schema: Schema) -> JobSection:
    return {
        "name": job.file.job.name,
        "unit": job.file.require_privacy().unit,
        "epsilon": job.file.require_privacy().epsilon,
        "delta": job.file.require_privacy().delta,
        "model": job.file.require_model().kind,
        "rounds": job.plan.rounds,
        "errors_in": errors_in(schema),
    }


def errors_in(schema: Schema) -> str:
    """What errors of a label that is a number are counted in; nothing for a class."""
    label, name = schema.label, schema.roles.label
    if schema.task != "number" or isinstance(label, CategoryColumn):
        return ""
    return name if label.scale == "linear" else f"log(1 + {name} - {label.min:g})"


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
    return {
        "loss": evaluation.loss,
        "figures": {
            name: {"value": found.value, "interval": [found.lower, found.upper]}
            for name, found in evaluation.metrics.items()
        },
        "epsilon": epsilon_by_pld(job.plan.require_evaluation().event, job.file.guarantee.delta),
        "counts": [list(row) for row in evaluation.histogram],
        "label_scale": evaluation.label_scale,
    }
