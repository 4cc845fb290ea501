"""One message of every kind, the key that signs them, and how to write down their bytes.

`python tests/wire_examples.py VERSION` prints the envelopes as `tests/protocols/wire_vN.json` has
them. Those files are made once, when a version of the wire is new, and never again: they are what
sites and servers out there say.
"""

import json
import sys
from base64 import b64encode
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sordino_protocols.heads import SignedHead
from sordino_protocols.job import SignedJob
from sordino_protocols.messages import (
    Admission,
    Admit,
    Describe,
    Described,
    Evaluate,
    Evaluation,
    Inquire,
    Measure,
    Message,
    Quote,
    Recall,
    Recalled,
    Receipt,
    Refusal,
    Refused,
    RoundPlan,
    Settle,
    Statistics,
    Tabulate,
    Tabulated,
    Unmask,
    Unmasked,
    Update,
)
from sordino_protocols.signing import Signer
from sordino_protocols.wire import seal

SIGNER = Signer("server", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
_RUN = "train-20260101-000000-0badcafe"
_DIGEST = "ab" * 32
_HEAD = SignedHead(7, "1" * 64, "2" * 128)
_AUDIT_HEAD = "3" * 64
_JOB = SignedJob(b'{"version":2}', "scientist", bytes(range(64)), "train", "0f" * 16)
_REALS = np.array([0.5, -1.25, 3e38, -0.0], dtype=np.float32)
_SCALES = np.array([0.25, 2.0], dtype=np.float32)
_COUNTS = np.array([-(2**31), -1, 0, 2**24 + 1, 2**31 - 1], dtype=np.int32)

EXAMPLES: Mapping[str, Message] = {
    type(each).__name__: each
    for each in (
        Recall(_RUN, _HEAD, 5, _AUDIT_HEAD),
        Describe(_RUN, _JOB),
        Inquire(_RUN, _JOB),
        Admit(_RUN, _JOB),
        Measure(_RUN, _DIGEST),
        RoundPlan(_RUN, _DIGEST, 3, _REALS, _SCALES),
        Evaluate(_RUN, _DIGEST, _REALS, _SCALES),
        Tabulate(_RUN, _DIGEST),
        Unmask(_RUN, _DIGEST, "cleveland,hungary"),
        Settle(_RUN, _DIGEST),
        Recalled(_RUN, _HEAD, 6, _AUDIT_HEAD),
        Described(_RUN, '{"dataset":{}}'),
        Quote(_RUN, Refusal.NO_POLICY, True, "policy.toml: budgets", 1.5, 2.5, 0.125, 3, 0.5),  # noqa: FBT003
        Admission(_RUN, _DIGEST, 200, 13, "cd" * 32, "e0", 1.5, "ef" * 32, _HEAD),
        Statistics(_RUN, _DIGEST, _HEAD, _REALS),
        Update(_RUN, _DIGEST, 3, _HEAD, _REALS),
        Evaluation(_RUN, _DIGEST, _HEAD, _REALS),
        Tabulated(_RUN, _DIGEST, _HEAD, _COUNTS),
        Unmasked(_RUN, _DIGEST, _HEAD, _COUNTS),
        Receipt(
            run_id=_RUN,
            job_digest=_DIGEST,
            epsilon_planned=4.0,
            epsilon_spent_pld=3.5,
            epsilon_spent_rdp=3.75,
            delta=1e-5,
            events_json="[]",
            policy_sha256="cd" * 32,
            approvals_json="[]",
            budget_limit=8.0,
            budget_delta=1e-5,
            budget_spent=3.75,
            budget_left=4.25,
            network_cut_off=True,
            coins="e0",
            coins_salt="0a" * 16,
            ledger_head=_HEAD,
            audit_length=6,
            audit_head=_AUDIT_HEAD,
        ),
        Refused(_RUN, Refusal.BUDGET_EXHAUSTED),
    )
}


def main(version: int) -> None:
    """Print every example's envelope."""
    sealed = {
        name: b64encode(seal(each, SIGNER, version=version)).decode("ascii")
        for name, each in EXAMPLES.items()
    }
    json.dump(sealed, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
