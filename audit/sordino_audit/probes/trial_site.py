"""A real site with made-up records in a directory of its own, and one run of it from end to end.

Ledger, outbox, policy, keys and messages are the product's; only the records are invented. Nothing
here needs a network, and nothing outside the directory is read or written.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sordino_client.admission import SiteState
from sordino_client.admitted import AdmittedRuns
from sordino_client.approvals import Approvals
from sordino_client.data.site_dataset import SiteDataset
from sordino_client.data.table import Table
from sordino_client.judging import Rules
from sordino_client.ledger import Ledger
from sordino_client.mechanisms import Engine
from sordino_client.metrics import SiteMetrics
from sordino_client.outbox import Outbox
from sordino_client.policy import parse_policy
from sordino_client.site import Site
from sordino_client.witness import WitnessStore
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JOB_VERSION, Job, JobFile, new_nonce, sign_job
from sordino_protocols.messages import (
    Admit,
    Evaluate,
    Measure,
    Message,
    Request,
    RoundPlan,
    Settle,
    Tabulate,
    Vector,
)
from sordino_protocols.models import parameter_count
from sordino_protocols.plan import UpdateKind
from sordino_protocols.scaling import Scaling
from sordino_protocols.schema import Schema
from sordino_protocols.signing import Signer, TrustStore
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.wire import open_sealed, seal

RUN = "trial"
TABLE = "table"
ROUNDS = 2
LANES = 600
_FEATURES = 3
_NAMES = ("trial-site", "trial-server", "scientist")

_SCHEMA = """
[dataset]
name = "trial"
version = 1
order_of_magnitude = 100
holdout_fraction = 0.25
[columns.age]
type = "number"
min = 0
max = 100
[columns.dose]
type = "number"
min = 0
max = 500
[columns.pulse]
type = "number"
min = 0
max = 250
[columns.ill]
type = "integer"
min = 0
max = 1
[roles]
label = "ill"
positive_above = 0
"""

_POLICY = """
[datasets.trial]
submitters = ["scientist"]
kinds = ["train", "synthesize"]
models = ["logistic"]
max_epsilon = 8.0
max_delta = 1e-5
max_rounds = 10
min_expected_batch = 20
[budgets.trial]
epsilon = 16.0
delta = 1e-5
"""

_JOB = f"""
[job]
name = "trial"
kind = "train"
dataset = "trial"
[privacy]
unit = "record"
epsilon = 8
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = {ROUNDS}
sampling_rate = 1
clipping_norm = 0.5
[optimizer]
learning_rate = 2.0
[statistics]
kind = "moments"
[audit]
lanes = {LANES}
"""

_TABLE_JOB = """
[job]
name = "trial-table"
kind = "synthesize"
dataset = "trial"
[privacy]
unit = "record"
epsilon = 8
delta = 1e-5
[synthesis]
mode = "local"
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a site is made of; see `Site`.

    Attributes:
        directory: where its state lies.
    """

    directory: Path
    signer: Signer
    server: TrustStore
    rules: Rules
    datasets: Mapping[str, SiteDataset]
    state: SiteState
    engine: Engine


SiteMaker = Callable[[Parts], Site]
"""`product_site`, or a site with a fault planted in it."""


def product_site(parts: Parts, *, kind: type[Site] = Site) -> Site:
    """The site as the vault makes it, or one of another class, made in the same way."""
    return kind(
        parts.signer,
        parts.server,
        parts.rules,
        datasets=parts.datasets,
        state=parts.state,
        engine=parts.engine,
        metrics=SiteMetrics(),
        network_cut_off=False,
        now=_now,
    )


@dataclass(frozen=True, slots=True)
class People:
    """Who speaks in a trial, each with a key of its own.

    Attributes:
        site: the site's name and key.
        server: the server's.
        submitter: of the job.
    """

    site: Signer
    server: Signer
    submitter: Signer


def make_people() -> People:
    """New keys."""
    return People(*(Signer(name, Ed25519PrivateKey.generate()) for name in _NAMES))


def trial_job(*, update: UpdateKind = "sum") -> Job:
    """The job of every trial; its noise costs less than the epsilon that it declares."""
    text = _JOB.replace("[optimizer]", f'update = "{update}"\n[optimizer]')
    return Job(
        version=JOB_VERSION,
        file=parse_toml(text, JobFile, source="the trial's job"),
        training_noise_multiplier=2.5,
        evaluation_noise_multiplier=4.0,
        statistics_noise_multiplier=4.0,
    )


def table_job() -> Job:
    """A synthesis whose noise costs less than the epsilon that it declares."""
    schema = _trial_schema()
    file = parse_toml(_TABLE_JOB, JobFile, source="the trial's job")
    known = {"shape": domain_of(schema).shape, "schema_sha256": schema.synthesis_digest()}
    section = file.require_synthesis().model_copy(update=known)
    return Job(
        version=JOB_VERSION,
        file=file.model_copy(update={"synthesis": section}),
        table_noise_multiplier=2.0,
    )


def trial_weights(job: Job) -> Vector:
    """Weights of zero, of the shape that a trial's rounds have."""
    extra = job.plan.require_training().extra_coordinates
    return np.zeros(parameter_count(job.file.require_model(), _FEATURES) + extra, dtype=np.float32)


def made_up_dataset(records: int, *, seed: int) -> SiteDataset:
    """So many records to train on, and a third as many held out; the first of more."""
    heldout = _table(records // 3, seed=seed + 1)
    return SiteDataset(_trial_schema(), _table(records, seed=seed), heldout)


class TrialSite:
    """A site that is open, in `directory`.

    Attributes:
        site: the site.
        job: what it is asked to run.
        dataset: what it runs it on.
        runs: those that it was admitted to.
    """

    def __init__(
        self,
        directory: Path,
        people: People,
        engine: Engine,
        *,
        dataset: SiteDataset,
        make: SiteMaker = product_site,
        job: Job | None = None,
    ) -> None:
        directory.mkdir(parents=True)
        self._people = people
        self._ledger = Ledger(directory / "ledger.db", now=_now)
        self.job = job or trial_job()
        self.dataset = dataset
        self.runs = AdmittedRuns(directory / "runs")
        policy = parse_policy(_POLICY, directory / "policy.toml")
        name = people.site.name
        self.site = make(
            Parts(
                directory,
                people.site,
                _trust(people.server),
                Rules(policy, _trust(people.submitter), TrustStore({})),
                {dataset.schema.dataset.name: dataset},
                SiteState(
                    self._ledger,
                    Outbox(directory / "outbox"),
                    self.runs,
                    Approvals(directory / "approvals", site=name, now=_now),
                    AuditLog(directory / "audit.log", now=_now),
                    WitnessStore(directory / "witness"),
                ),
                engine,
            )
        )

    def close(self) -> None:
        """Let go of the ledger."""
        self._ledger.close()

    def requests(self) -> dict[str, Request]:
        """Every request of a run, in order, by what it asks for."""
        digest, kind = self.job.digest(), self.job.file.job.kind
        signed = sign_job(self.job, self._people.submitter, purpose=kind, nonce=new_nonce())
        steps = self._of_training(digest) if kind == "train" else {TABLE: Tabulate(RUN, digest)}
        return {"admission": Admit(RUN, signed), **steps, "receipt": Settle(RUN, digest)}

    def _of_training(self, digest: str) -> dict[str, Request]:
        weights = trial_weights(self.job)
        scaling = Scaling(np.zeros(_FEATURES), np.ones(_FEATURES)).vector()
        rounds = {
            f"round {number}": RoundPlan(RUN, digest, number, weights, scaling)
            for number in range(1, ROUNDS + 1)
        }
        evaluation = Evaluate(RUN, digest, weights, scaling)
        return {"statistics": Measure(RUN, digest), **rounds, "evaluation": evaluation}

    def envelope(self, request: Request) -> bytes:
        """A request as the server sends it."""
        return seal(request, self._people.server)

    def answer(self, envelope: bytes) -> bytes:
        """What the site answers."""
        return self.site.answer(envelope)

    def read(self, envelope: bytes) -> Message:
        """An answer as the server reads it."""
        return open_sealed(envelope, _trust(self._people.site)).message


def _trial_schema() -> Schema:
    return parse_toml(_SCHEMA, Schema, source="the trial's data set")


def _table(records: int, *, seed: int) -> Table:
    drawn = np.random.default_rng(seed).uniform(-1, 1, size=(records, _FEATURES + 1))
    labels = (drawn[:, 0] > 0).astype(np.float32)
    return Table(drawn[:, 1:].astype(np.float32), labels, None)


def _trust(*signers: Signer) -> TrustStore:
    return TrustStore({each.name: each.key.public_key() for each in signers})


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
