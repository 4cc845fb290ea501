"""What the server tells of audits: figures that are bounds, of the newest runs, and no others."""

import json
import math
from collections.abc import Mapping

import pytest
from federation import Federation
from prometheus_client import CollectorRegistry

from sordino_audit.audit_document import SCHEMA_VERSION, AuditDocument
from sordino_audit.audit_entries import BoundEntry, EValueEntry, Provenance
from sordino_audit.findings import Verdict
from sordino_protocols.metrics import METRICS
from sordino_server.audit_document import AUDIT
from sordino_server.audit_metrics import (
    VERDICTS,
    AuditCollector,
)
from sordino_server.quarantine import quarantine_run, release_run
from sordino_server.runs import RunDirectory

BOUND: dict[str, object] = {
    "name": "claimed curve",
    "assumption": "none",
    "standing": "bound",
    "epsilon_low": 1.25,
    "confidence": 0.95,
}
E_VALUE: dict[str, object] = {
    "site": "cleveland",
    "test": "lanes",
    "log10_value": 2.0,
    "pairs": 500,
    "history": [1.0, 2.0],
}
DOCUMENT: dict[str, object] = {
    "schema_version": 3,
    "issued_at": "2026-01-02T00:00:00Z",
    "verdict": "loose",
    "claimed": 4.0,
    "bounds": [BOUND],
    "e_values": [E_VALUE],
    "provenance": {"packages": {}, "job_sha256": None, "seeds": [], "seconds": 1.5},
}


@pytest.fixture
def registry(federation: Federation) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(AuditCollector(federation.runs))
    return made


def audited(run: RunDirectory, **changed: object) -> None:
    (run.path / AUDIT).write_text(json.dumps({**DOCUMENT, **changed}))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"sordino_{name}", labels)


def test_what_is_read_is_what_audits_write() -> None:
    # The two programs share no code: this is where they are compared.
    assert SCHEMA_VERSION == 3
    assert set(VERDICTS) == {each.value for each in Verdict}
    for model, written in (
        (AuditDocument, DOCUMENT),
        (BoundEntry, BOUND),
        (EValueEntry, E_VALUE),
        (Provenance, DOCUMENT["provenance"]),
    ):
        assert isinstance(written, Mapping)
        assert set(written) <= set(model.model_fields)


def test_every_metric_of_audits_is_told_and_no_other(registry: CollectorRegistry) -> None:
    told = {name for name in METRICS if name.startswith("sordino_audit_")}
    assert {each.name for each in registry.collect()} == {*told, "sordino_models_quarantined"}


def test_an_audit_is_told_and_the_next_one_replaces_it(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit()
    model = run.run_id
    assert value(registry, "audit_verdict", model=model, verdict="loose") is None
    audited(run)
    assert value(registry, "audit_verdict", model=model, verdict="loose") == 1
    assert value(registry, "audit_verdict", model=model, verdict="violation") == 0
    assert value(registry, "audit_epsilon_claimed", model=model) == 4
    labels = {"model": model, "test": "claimed curve", "assumption": "none"}
    assert value(registry, "audit_epsilon_lower_bound", **labels) == 1.25
    e_value = {"model": model, "site": "cleveland", "test": "lanes"}
    assert value(registry, "audit_e_value", **e_value) == pytest.approx(100)
    assert value(registry, "audit_last_success_timestamp_seconds", model=model) == 1767312000
    assert value(registry, "audit_duration_seconds", model=model) == 1.5

    worse = {**BOUND, "epsilon_low": None}
    rich = {**E_VALUE, "log10_value": 5000.0}
    audited(run, verdict="violation", bounds=[worse], e_values=[rich])
    assert value(registry, "audit_verdict", model=model, verdict="violation") == 1
    assert value(registry, "audit_verdict", model=model, verdict="loose") == 0
    assert value(registry, "audit_epsilon_lower_bound", **labels) == math.inf
    assert value(registry, "audit_e_value", **e_value) == pytest.approx(1e300)


def test_no_alarm_rests_on_an_estimate(registry: CollectorRegistry, federation: Federation) -> None:
    run = federation.submit()
    audited(run, bounds=[{**BOUND, "name": each, "standing": each} for each in STANDINGS])
    told = [
        sample.labels["test"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "sordino_audit_epsilon_lower_bound"
    ]
    assert told == ["bound"]


STANDINGS = ("bound", "credible", "estimate", "convention")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema_version": 2}'])
def test_what_is_no_audit_of_this_version_is_not_told(
    registry: CollectorRegistry, federation: Federation, content: str
) -> None:
    broken, good = federation.submit(), federation.submit()
    (broken.path / AUDIT).write_text(content)
    audited(good)
    assert value(registry, "audit_epsilon_claimed", model=broken.run_id) is None
    assert value(registry, "audit_epsilon_claimed", model=good.run_id) == 4


def test_audits_of_runs_long_gone_are_no_series(
    registry: CollectorRegistry, federation: Federation
) -> None:
    first = federation.submit()
    audited(first, issued_at="2025-01-01T00:00:00Z")
    for day in range(1, 21):
        audited(federation.submit(), issued_at=f"2026-02-{day:02}T00:00:00Z")
    told = {
        sample.labels["model"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "sordino_audit_verdict"
    }
    assert len(told) == 20
    assert first.run_id not in told


def test_withheld_models_are_counted(registry: CollectorRegistry, federation: Federation) -> None:
    assert value(registry, "models_quarantined") == 0
    first, second = federation.submit(), federation.submit()
    for run in (first, second):
        quarantine_run(run, reason="Too little noise.", audit_hash="ab" * 32)
    assert value(registry, "models_quarantined") == 2
    release_run(first, reason="a mistake", by="olga")
    assert value(registry, "models_quarantined") == 1


def test_a_broken_promise_is_told_until_somebody_decides_however_many_audits_came_since(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit()
    audited(run, verdict="violation")
    quarantine_run(run, reason="the lanes show more than was claimed", audit_hash="ab" * 32)
    for _ in range(20):
        audited(federation.submit(), issued_at="2026-01-03T00:00:00Z")
    told = {"model": run.run_id, "verdict": "violation"}
    assert value(registry, "audit_verdict", **told) == 1
    release_run(run, reason="the canaries were counted twice", by="ada")
    assert value(registry, "audit_verdict", **told) is None
