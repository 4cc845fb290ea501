"""Runs whose results nobody may fetch, because an audit found that a promise was broken.

A quarantine is a file beside the run. What must stay true: no program lifts one, only a person with
a reason does (`sordino server release`), and both stay on record, in the file and in the run's log.
An audit that finds a violation again quarantines again.
"""

import datetime as dt

import numpy as np
from pydantic import AwareDatetime, BaseModel

from sordino_protocols.errors import InputError, NotFoundError, ViolationError
from sordino_protocols.files import STRICT
from sordino_protocols.job import weights_digest
from sordino_protocols.model_file import ReleasedModel, read_model
from sordino_server.runs import CERTIFICATE, MODEL, RESULTS, RunDirectory, Runs

QUARANTINE = "quarantine.json"
WITHHELD = frozenset({*RESULTS, CERTIFICATE})
"""Of a quarantined run: what came of it, and the document that vouches for it."""


class Release(BaseModel):
    """How a quarantine ended: who decided it, why and when."""

    model_config = STRICT

    by: str
    reason: str
    at: AwareDatetime


class Quarantine(BaseModel):
    """Why a run's model is withheld.

    Attributes:
        reason: the audit's, in a sentence.
        audit_hash: of the audit's document.
        weights_sha256: of the model, as a validation would name it; absent if there is none.
        at: since when.
        released: how it ended; absent while it lasts.
    """

    model_config = STRICT

    reason: str
    audit_hash: str
    weights_sha256: str | None
    at: AwareDatetime
    released: Release | None = None


class QuarantineFile(BaseModel):
    """All quarantines of a run, the newest last."""

    model_config = STRICT

    quarantines: tuple[Quarantine, ...] = ()


def quarantine_run(run: RunDirectory, *, reason: str, audit_hash: str) -> None:
    """Withhold a run's model from now on; on disk when this returns.

    Without effect on a run that is in quarantine already.

    Args:
        run: what was audited.
        reason: one sentence for whoever asks for the model.
        audit_hash: of the document that says more.
    """
    with run.locked():
        if quarantine_of(run) is not None:
            return
        added = Quarantine(
            reason=reason,
            audit_hash=audit_hash,
            weights_sha256=_weights_sha256(run),
            at=dt.datetime.now(dt.UTC),
        )
        before = _read(run).quarantines
        run.save(QUARANTINE, QuarantineFile(quarantines=(*before, added)))
        # Not called a reason: that is what the log calls the end of a run that failed.
        run.record("quarantined", audit=audit_hash, because=reason)


def release_run(run: RunDirectory, *, reason: str, by: str) -> Quarantine:
    """End a run's quarantine, by a person's decision; returns it as it is kept.

    Raises:
        InputError: the run is not in quarantine, or no reason is given.
    """
    if not reason.strip():
        raise InputError("a release needs a reason: who reads the run's log must understand it")
    with run.locked():
        lasting = quarantine_of(run)
        if lasting is None:
            raise InputError(f"run {run.run_id} is not in quarantine")
        release = Release(by=by, reason=reason, at=dt.datetime.now(dt.UTC))
        ended = lasting.model_copy(update={"released": release})
        # On record first: a crash in between leaves the quarantine, and a release to repeat.
        run.record("released", by=by, because=reason, audit=lasting.audit_hash)
        earlier = _read(run).quarantines[:-1]
        run.save(QUARANTINE, QuarantineFile(quarantines=(*earlier, ended)))
    return ended


def quarantine_of(run: RunDirectory) -> Quarantine | None:
    """A run's quarantine, while it lasts.

    Raises:
        IntegrityError: the file was altered; whoever asks for the model does not get it.
    """
    match _read(run).quarantines:
        case [*_, Quarantine(released=None) as newest]:
            return newest
        case _:
            return None


def artifact(run: RunDirectory, name: str) -> bytes:
    """A file that a run leaves for others, if it may be handed out.

    Raises:
        NotFoundError: there is no such file for others, or the run has not got that far.
        ViolationError: it is withheld; names the audit.
        IntegrityError: the record of quarantines was altered.
    """
    content = run.artifact(name)
    lasting = quarantine_of(run) if name in WITHHELD else None
    if lasting is not None:
        raise ViolationError(f"{name} is withheld: run {run.run_id} {_in_words(lasting)}")
    return content


def check_no_quarantine(model: ReleasedModel, runs: Runs) -> None:
    """Return if a model that somebody brings is not that of a quarantined run.

    Raises:
        ViolationError: it is; names run and audit.
        IntegrityError: a run's record of quarantines was altered.
    """
    digest = _digest(model)
    for run in runs.all():
        lasting = quarantine_of(run)
        if lasting is not None and lasting.weights_sha256 == digest:
            raise ViolationError(
                f"this is the model of run {run.run_id}, which {_in_words(lasting)}"
            )


def _in_words(lasting: Quarantine) -> str:
    return (
        f"is in quarantine since {lasting.at:%Y-%m-%d %H:%M} UTC by audit"
        f" {lasting.audit_hash[:12]}: {lasting.reason}"
    )


def _read(run: RunDirectory) -> QuarantineFile:
    try:
        return run.read(QUARANTINE, QuarantineFile)
    except NotFoundError:
        return QuarantineFile()


def _weights_sha256(run: RunDirectory) -> str | None:
    return _digest(read_model(run.content(MODEL))) if run.has(MODEL) else None


def _digest(model: ReleasedModel) -> str:
    scaling = np.zeros(0, dtype=np.float32) if model.scaling is None else model.scaling.vector()
    return weights_digest(model.weights.astype(np.float32), scaling)
