"""A certificate for tests: real keys, real sealed messages of three sites, real accounting.

The run itself is made up: what a site would have charged is charged, without any records.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_job import job_text, read_file

from sordino_protocols import coins
from sordino_protocols.accounting import epsilon_by_pld, epsilon_by_rdp
from sordino_protocols.certificate import Certificate, attach
from sordino_protocols.certificate_check import TrustedKeys
from sordino_protocols.certificate_claims import composed, planned_steps
from sordino_protocols.certificate_facts import AuditFacts, FindingFacts
from sordino_protocols.heads import sign_head
from sordino_protocols.job import Job, sign_job
from sordino_protocols.messages import Admission, Receipt
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import Event, event_to_json
from sordino_protocols.signing import Signer, TrustStore, canonical_json
from sordino_protocols.wire import seal
from sordino_server.certificate import Proceedings, certify
from sordino_server.statement import EstimateFacts, EvaluationFacts

RUN_ID = "train-20260102-000000-00000000"
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
MODEL_FILE = b"the content of a model's file"
SITES = ("cleveland", "hungarian", "va")
SALT = bytes(range(32))
JOB_TEXT = job_text(
    '[audit]\nlanes = 8\n[cohort]\nquorum = 2\n[statistics]\nkind = "moments"\nshare = 0.2'
).replace("sampling_rate = 1", "sampling_rate = 0.5")

Change = Callable[[Receipt], Receipt]


def keys(name: str) -> Signer:
    """Somebody with the same key in every run of the tests."""
    return Signer(
        name, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    )


def store(*signers: Signer) -> TrustStore:
    """A store that trusts exactly these."""
    return TrustStore({each.name: each.key.public_key() for each in signers})


SERVER, SUBMITTER, AUDITOR, OUTSIDER = map(keys, ("server", "scientist", "auditor", "outsider"))
SITE_KEYS = {name: keys(name) for name in SITES}
TRUSTED = TrustedKeys(
    server=store(SERVER),
    sites=store(*SITE_KEYS.values()),
    submitters=store(SUBMITTER),
    auditors=store(AUDITOR),
)


@cache
def job() -> Job:
    """The run's job."""
    return resolve(read_file(JOB_TEXT))


def admission(site: str, *, length: int = 5) -> Admission:
    """What a site declared."""
    flips = [bool(lane % 2) for lane in range(job().plan.lanes)]
    return Admission(
        run_id=RUN_ID,
        job_digest=job().digest(),
        order_of_magnitude=200,
        feature_count=3,
        feature_digest="ab" * 32,
        measured="e0",
        label_scale=1.0,
        coins_commitment=coins.commit(flips, salt=SALT, run_id=RUN_ID, site=site),
        ledger_head=sign_head(SITE_KEYS[site], length=length, hash="0a" * 32),
    )


def receipt(site: str, events: list[Event] | None = None, *, length: int = 30) -> Receipt:
    """What a site charged: by default the whole plan."""
    delta = job().file.require_privacy().delta
    charged = planned_steps(job().plan) if events is None else events
    whole = composed(charged)
    return Receipt(
        run_id=RUN_ID,
        job_digest=job().digest(),
        epsilon_planned=epsilon_by_pld(job().plan.event, delta),
        epsilon_spent_pld=epsilon_by_pld(whole, delta) if whole else 0.0,
        epsilon_spent_rdp=epsilon_by_rdp(whole, delta) if whole else 0.0,
        delta=delta,
        events_json=canonical_json([event_to_json(each) for each in charged]).decode("ascii"),
        policy_sha256="cd" * 32,
        approvals_json=canonical_json(
            [
                {
                    "approver": "alice",
                    "decision": "approve",
                    "at": "2026-01-01T00:00:00Z",
                    "signature": "ef" * 64,
                }
            ]
        ).decode("ascii"),
        budget_limit=12.0,
        budget_delta=delta,
        budget_spent=6.5,
        budget_left=5.5,
        network_cut_off=True,
        coins="55",
        coins_salt=SALT.hex(),
        ledger_head=sign_head(SITE_KEYS[site], length=length, hash="0b" * 32),
    )


def evaluation() -> EvaluationFacts:
    """What was learnt of the model."""
    estimate = EstimateFacts(value=0.81, lower=0.75, upper=0.87)
    return EvaluationFacts(
        loss="binary",
        metrics={"accuracy": estimate, "auc": estimate},
        recalls=(),
        confidence=0.95,
        histogram=((1.0, 2.0), (3.0, 4.0)),
        noise_std=job().plan.require_evaluation().noise_multiplier * len(SITES) ** 0.5,
        label_scale=1.0,
        sites=SITES,
    )


@dataclass(frozen=True)
class Made:
    """What a certificate is made from; `changed` makes it from something else."""

    receipts: Mapping[str, Receipt | None]

    def changed(self, site: str, change: Change) -> "Made":
        """The same with another receipt of one site, signed by the site."""
        found = self.receipts[site]
        assert found is not None
        return Made({**self.receipts, site: change(found)})

    def without(self, site: str) -> "Made":
        """The same without a site's receipt."""
        return Made({**self.receipts, site: None})

    def certificate(self) -> Certificate:
        """Issued by the server, with no audit."""
        return certify(
            Proceedings(
                run_id=RUN_ID,
                job=sign_job(job(), SUBMITTER, purpose="train", nonce="01" * 16),
                admissions={name: seal(admission(name), SITE_KEYS[name]) for name in SITES},
                receipts={
                    name: seal(each, SITE_KEYS[name])
                    for name, each in self.receipts.items()
                    if each is not None
                },
                evaluation=evaluation(),
                model=MODEL_FILE,
            ),
            SERVER,
            store(*SITE_KEYS.values()),
            now=NOW,
        )


def made() -> Made:
    """Everything as it should be; one site missed two rounds."""
    missed = planned_steps(job().plan)
    del missed[1:3]
    return Made(
        {
            "cleveland": receipt("cleveland"),
            "hungarian": receipt("hungarian", missed),
            "va": receipt("va"),
        }
    )


@cache
def certificate() -> Certificate:
    """A good certificate with an audit."""
    return attach(made().certificate(), summary(), AUDITOR)


def summary() -> AuditFacts:
    """An audit without a violation."""
    return AuditFacts(
        document_hash="aa" * 32,
        run_id=RUN_ID,
        verdict="loose",
        claimed=job().file.require_privacy().epsilon,
        delta=job().file.require_privacy().delta,
        lower_bound=0.5,
        confidence=0.95,
        detectable=0.2,
        findings=(FindingFacts(check="membership", severity="suspect", message="one sentence"),),
    )


def understated(found: Receipt) -> Receipt:
    """A receipt of a site that says that it spent less than it did."""
    return replace(found, epsilon_spent_pld=found.epsilon_spent_pld / 2)
