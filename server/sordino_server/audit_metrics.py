"""Audits as metrics, read off the documents that lie beside the runs. All of them are `public`.

Only figures that are bounds are told: no alarm may rest on an estimate. A document that is of
another version, or none, is not told at all.
"""

import math
from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sordino_protocols.errors import IntegrityError
from sordino_protocols.metrics import gauge_family
from sordino_server.audit_document import AUDIT, AuditDocument, Verdict, read_audit
from sordino_server.quarantine import quarantine_of
from sordino_server.runs import RunDirectory, Runs

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_MOST_AUDITS = 20
_LARGEST_LOG10 = 300.0


class AuditCollector(Collector):
    """The newest audits of runs, and how many models are withheld."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._read: dict[str, tuple[str, AuditDocument | None]] = {}

    def collect(self) -> Iterator[Metric]:
        """Read what changed since the last scrape."""
        runs = self._runs.all()
        audits = [(run.run_id, audit) for run in runs if (audit := self._audit(run)) is not None]
        quarantined = {run.run_id for run in runs if _is_quarantined(run)}
        # The newest only: one series a run, for ever, is no metric but a list of runs. An alert
        # about a model that is withheld must last until somebody decides.
        audits.sort(key=lambda each: each[1].issued_at)
        lasting = [each for each in audits[:-_MOST_AUDITS] if each[0] in quarantined]
        newest = [*lasting, *audits[-_MOST_AUDITS:]]
        yield _verdicts(newest)
        yield _bounds(newest)
        yield _claims(newest)
        yield _e_values(newest)
        yield _times(newest)
        yield _durations(newest)
        withheld = gauge_family("sordino_models_quarantined")
        withheld.add_metric([], len(quarantined))
        yield withheld

    def _audit(self, run: RunDirectory) -> AuditDocument | None:
        changed = run.stamp(AUDIT)
        if changed is None:
            return None
        known = self._read.get(run.run_id)
        if known is None or known[0] != changed:
            known = self._read[run.run_id] = (changed, read_audit(run))
        return known[1]


def _is_quarantined(run: RunDirectory) -> bool:
    try:
        return quarantine_of(run) is not None
    except IntegrityError:
        return True


_Audits = list[tuple[str, AuditDocument]]


def _verdicts(audits: _Audits) -> Metric:
    family = gauge_family("sordino_audit_verdict")
    for model, audit in audits:
        for verdict in VERDICTS:
            family.add_metric([model, verdict], float(audit.verdict == verdict))
    return family


def _bounds(audits: _Audits) -> Metric:
    family = gauge_family("sordino_audit_epsilon_lower_bound")
    for model, audit in audits:
        for each in audit.bounds:
            if each.standing == "bound":
                low = math.inf if each.epsilon_low is None else each.epsilon_low
                family.add_metric([model, each.name, each.assumption], low)
    return family


def _claims(audits: _Audits) -> Metric:
    family = gauge_family("sordino_audit_epsilon_claimed")
    for model, audit in audits:
        if audit.claimed is not None:
            family.add_metric([model], audit.claimed)
    return family


def _e_values(audits: _Audits) -> Metric:
    family = gauge_family("sordino_audit_e_value")
    for model, audit in audits:
        for each in audit.e_values:
            value = 10.0 ** min(each.log10_value, _LARGEST_LOG10)
            family.add_metric([model, each.site, each.test], value)
    return family


def _times(audits: _Audits) -> Metric:
    family = gauge_family("sordino_audit_last_success_timestamp_seconds")
    for model, audit in audits:
        family.add_metric([model], audit.issued_at.timestamp())
    return family


def _durations(audits: _Audits) -> Metric:
    family = gauge_family("sordino_audit_duration_seconds")
    for model, audit in audits:
        family.add_metric([model], audit.provenance.seconds)
    return family
