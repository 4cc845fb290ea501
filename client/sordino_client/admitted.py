"""Runs that a site takes part in: what was agreed at admission, kept across restarts.

One file a run, written durably before the site says yes: the pinned job and the coins of the
canaries. What must stay true: a run's job and coins never change, so neither can its commitment.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sordino_client.outbox import check_file_name, write_durably
from sordino_protocols.approval import (
    Approval,
    ApprovalSubject,
    read_approval,
    show_approval,
)
from sordino_protocols.bits import pack_bits, unpack_bits
from sordino_protocols.coins import SALT_BYTES, commit
from sordino_protocols.errors import InputError, IntegrityError
from sordino_protocols.job import Job, read_job
from sordino_protocols.signing import canonical_json


@dataclass(frozen=True, slots=True)
class AdmittedRun:
    """A run with its pinned job and its secret coins.

    Attributes:
        run_id: the run.
        job: what was signed and allowed.
        job_digest: its identity.
        coins: bool [lanes], which lanes have a canary; secret until the run is settled.
        salt: what the commitment is salted with.
        nonce: of the signature that the run was admitted with.
        approvals: of people at the site, where the policy asked for them.
    """

    run_id: str
    job: Job
    job_digest: str
    coins: npt.NDArray[np.bool_]
    salt: bytes
    nonce: str
    approvals: tuple[Approval, ...] = ()

    def __repr__(self) -> str:
        return f"AdmittedRun(run_id={self.run_id!r}, job_digest={self.job_digest!r})"

    @property
    def canary_lanes(self) -> npt.NDArray[np.int64]:
        """The lanes that have a canary."""
        return np.flatnonzero(self.coins).astype(np.int64)

    def commitment(self, site: str) -> str:
        """What the site publishes before the first round."""
        coins = [bool(coin) for coin in self.coins]
        return commit(coins, salt=self.salt, run_id=self.run_id, site=site)


class AdmittedRuns:
    """The directory of admitted runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._known: dict[str, AdmittedRun] = {}
        self._nonces: dict[str, str] = {}
        for path in directory.glob("[!.]*.json"):
            run = self.get(path.stem)
            if run is not None:
                self._nonces[run.nonce] = run.run_id

    def run_of(self, nonce: str) -> str | None:
        """The run that a signature was used for; None if it is new."""
        return self._nonces.get(nonce)

    def get(self, run_id: str) -> AdmittedRun | None:
        """The run, or None if it was never admitted.

        Raises:
            IntegrityError: the run's file does not hold together.
        """
        if run_id not in self._known:
            path = self._path(run_id)
            if not path.exists():
                return None
            self._known[run_id] = _read(path, run_id)
        return self._known[run_id]

    def runs(self) -> tuple[AdmittedRun, ...]:
        """Every run that was ever admitted."""
        return tuple(self._known.values())

    def add(
        self, run_id: str, job: Job, *, nonce: str, approvals: tuple[Approval, ...] = ()
    ) -> AdmittedRun:
        """Pin a job and draw the run's coins; on disk when this returns."""
        lanes = job.plan.lanes
        drawn = np.frombuffer(secrets.token_bytes(-(-lanes // 8)), dtype=np.uint8)
        run = AdmittedRun(
            run_id=run_id,
            job=job,
            job_digest=job.digest(),
            coins=np.unpackbits(drawn, count=lanes).astype(np.bool_),
            salt=secrets.token_bytes(SALT_BYTES),
            nonce=nonce,
            approvals=approvals,
        )
        content = {
            "run_id": run_id,
            "job": job.canonical().decode("ascii"),
            "coins": pack_bits(run.coins),
            "salt": run.salt.hex(),
            "nonce": nonce,
            "approvals": [_approval_to_json(each) for each in approvals],
        }
        write_durably(self._path(run_id), canonical_json(content))
        self._known[run_id] = run
        self._nonces[nonce] = run_id
        return run

    def _path(self, run_id: str) -> Path:
        return self._directory / f"{check_file_name(run_id)}.json"


def _read(path: Path, run_id: str) -> AdmittedRun:
    try:
        raw = json.loads(path.read_bytes())
        job = read_job(raw["job"].encode("ascii"))
        coins = unpack_bits(raw["coins"], job.plan.lanes)
        salt = bytes.fromhex(raw["salt"])
        nonce = str(raw["nonce"])
        # Runs of earlier versions have none.
        approvals = tuple(_read_approval(each) for each in raw.get("approvals", []))
    except (ValueError, KeyError, TypeError, InputError):
        raise IntegrityError(f"{path}: this file of an admitted run cannot be read") from None
    if raw["run_id"] != run_id:
        raise IntegrityError(f"{path}: this file is about another run")
    return AdmittedRun(run_id, job, job.digest(), coins, salt, nonce, approvals)


def _approval_to_json(approval: Approval) -> dict[str, object]:
    return {"subject": asdict(approval.subject), **show_approval(approval)}


def _read_approval(raw: dict[str, object]) -> Approval:
    subject = raw.pop("subject")
    if not isinstance(subject, dict):
        raise InputError("an approval is about something")
    return read_approval(raw, ApprovalSubject(**subject))
