"""Audits as metrics, read off the documents that lie beside the runs. All of them are `public`.

The audit is another program, which the server may not import: what passes between the two is
`audit.json`, of which this reads what it tells. Only figures that are bounds are told: no alarm may
rest on an estimate. A document that is of another version, or none, is not told at all.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from sordino_protocols.errors import IntegrityError
from sordino_server.quarantine import quarantine_of
from sordino_server.runs import RunDirectory, Runs

AUDIT = "audit.json"
VERDICTS = ("violation", "suspect", "inconclusive", "tight", "loose")

AUDIT_RELEASE_CLASSES = {
    "sordino_audit_verdict": "public",
    "sordino_audit_epsilon_lower_bound": "public",
    "sordino_audit_epsilon_claimed": "public",
    "sordino_audit_e_value": "public",
    "sordino_audit_last_success_timestamp_seconds": "public",
    "sordino_audit_duration_seconds": "public",
    "sordino_models_quarantined": "public",
}

_MOST_AUDITS = 20
_LARGEST_LOG10 = 300.0
_READ = ConfigDict(frozen=True)  # keys that the server does not tell may be there


class _Bound(BaseModel):
    model_config = _READ
    name: str
    assumption: str
    standing: str
    epsilon_low: float | None


class _EValue(BaseModel):
    model_config = _READ
    site: str
    test: str
    log10_value: float


class _Provenance(BaseModel):
    model_config = _READ
    seconds: float


class _Audit(BaseModel):
    model_config = _READ
    schema_version: Literal[3]
    issued_at: AwareDatetime
    verdict: Literal["violation", "suspect", "inconclusive", "tight", "loose"]
    claimed: float | None
    bounds: tuple[_Bound, ...]
    e_values: tuple[_EValue, ...]
    provenance: _Provenance


class AuditCollector(Collector):
    """The newest audits of runs, and how many models are withheld."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._read: dict[Path, tuple[int, _Audit | None]] = {}

    def collect(self) -> Iterator[Metric]:
        """Read what changed since the last scrape."""
        runs = self._runs.all()
        audits = [(run.run_id, audit) for run in runs if (audit := self._audit(run)) is not None]
        # The newest only: one series a run, for ever, is no metric but a list of runs.
        newest = sorted(audits, key=lambda each: each[1].issued_at)[-_MOST_AUDITS:]
        yield _verdicts(newest)
        yield _bounds(newest)
        yield _claims(newest)
        yield _e_values(newest)
        yield _times(newest)
        yield _durations(newest)
        withheld = GaugeMetricFamily(
            "sordino_models_quarantined", "Runs whose model is withheld for an audit's sake."
        )
        withheld.add_metric([], sum(_is_quarantined(run) for run in runs))
        yield withheld

    def _audit(self, run: RunDirectory) -> _Audit | None:
        path = run.path / AUDIT
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        known = self._read.get(path)
        if known is None or known[0] != changed:
            known = self._read[path] = (changed, _read(path))
        return known[1]


def _read(path: Path) -> _Audit | None:
    try:
        return _Audit.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _is_quarantined(run: RunDirectory) -> bool:
    try:
        return quarantine_of(run) is not None
    except IntegrityError:
        return True


_Audits = list[tuple[str, _Audit]]


def _verdicts(audits: _Audits) -> Metric:
    family = _gauge(
        "sordino_audit_verdict", "1 for the verdict of a model's newest audit.", "verdict"
    )
    for model, audit in audits:
        for verdict in VERDICTS:
            family.add_metric([model, verdict], float(audit.verdict == verdict))
    return family


def _bounds(audits: _Audits) -> Metric:
    text = "What an audit showed of a model's epsilon, at the audit's confidence."
    family = _gauge("sordino_audit_epsilon_lower_bound", text, "test", "assumption")
    for model, audit in audits:
        for each in audit.bounds:
            if each.standing == "bound":
                low = math.inf if each.epsilon_low is None else each.epsilon_low
                family.add_metric([model, each.name, each.assumption], low)
    return family


def _claims(audits: _Audits) -> Metric:
    family = _gauge("sordino_audit_epsilon_claimed", "Epsilon that an audited model claims.")
    for model, audit in audits:
        if audit.claimed is not None:
            family.add_metric([model], audit.claimed)
    return family


def _e_values(audits: _Audits) -> Metric:
    text = "Evidence against a site's claim, over all its runs: 20 is suspect, 1000 a violation."
    family = _gauge("sordino_audit_e_value", text, "site", "test")
    for model, audit in audits:
        for each in audit.e_values:
            value = 10.0 ** min(each.log10_value, _LARGEST_LOG10)
            family.add_metric([model, each.site, each.test], value)
    return family


def _times(audits: _Audits) -> Metric:
    text = "When a model's newest audit came to a verdict, whichever."
    family = _gauge("sordino_audit_last_success_timestamp_seconds", text)
    for model, audit in audits:
        family.add_metric([model], audit.issued_at.timestamp())
    return family


def _durations(audits: _Audits) -> Metric:
    family = _gauge("sordino_audit_duration_seconds", "Time that a model's newest audit took.")
    for model, audit in audits:
        family.add_metric([model], audit.provenance.seconds)
    return family


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["model", *labels])
