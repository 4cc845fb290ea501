"""What a run is, fixed when it was queued: the signed job, under the run's name."""

import json
from dataclasses import dataclass

from sordino_protocols.errors import IntegrityError
from sordino_protocols.job import PURPOSES, Purpose, SignedJob
from sordino_protocols.signing import canonical_json


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run is.

    Attributes:
        run_id: the run's name, everywhere.
        job: as its submitter signed it.
        created: ISO 8601 time of when it was queued.
    """

    run_id: str
    job: SignedJob
    created: str

    @property
    def purpose(self) -> Purpose:
        """What the job was signed for: to be trained, or only to be priced."""
        return self.job.purpose


def write_manifest(manifest: Manifest) -> bytes:
    """A manifest as `read_manifest` reads it."""
    job = manifest.job
    return canonical_json(
        {
            "run_id": manifest.run_id,
            "purpose": job.purpose,
            "job": job.body.decode("ascii"),
            "submitter": job.submitter,
            "signature": job.signature.hex(),
            "nonce": job.nonce,
            "created": manifest.created,
        }
    )


def read_manifest(content: bytes, *, place: str) -> Manifest:
    """Read what `write_manifest` wrote.

    Raises:
        IntegrityError: it is none; names `place`.
    """
    try:
        raw = json.loads(content)
        signed = SignedJob(
            raw["job"].encode("ascii"),
            raw["submitter"],
            bytes.fromhex(raw["signature"]),
            PURPOSES[raw["purpose"]],
            raw["nonce"],
        )
        return Manifest(raw["run_id"], signed, raw["created"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(f"{place}: the run's manifest cannot be read") from None
