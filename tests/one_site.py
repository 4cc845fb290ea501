"""One site for tests, as its admin would have set it up: real files, keys, records and ledger.

`OneSite.prepare` writes everything that a vault reads. `open` makes the `Site` in this process,
as the vault does; opening again is a restart. A recognisable value lies among the records, in a
numeric column that allows it and as a category that nobody declared: no answer, log line, metric or
status may ever show it.
"""

import datetime as dt
import hashlib
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
from small_job import job_text, of_classes, of_entities, of_numbers, read_file

from sordino_client.admission import SiteState
from sordino_client.admitted import AdmittedRuns
from sordino_client.approval_desk import ApprovalDesk
from sordino_client.approvals import Approvals
from sordino_client.config import SiteConfig, load_config
from sordino_client.continuity import open_ledger
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.data.storage import FeatureArray
from sordino_client.data.table import Table, split
from sordino_client.ledger import read_entries
from sordino_client.mechanisms import Engine, SiteDataset
from sordino_client.metrics import SiteMetrics
from sordino_client.outbox import Outbox
from sordino_client.reload import Reloader, read_rules
from sordino_client.site import Site
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise, SecureNoise
from sordino_client.watching import LedgerWatch, watch_site
from sordino_client.witness import WitnessStore
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.job import Job, Purpose, SignedJob, sign_job
from sordino_protocols.messages import (
    Admit,
    Evaluate,
    Measure,
    Message,
    Refusal,
    Refused,
    RoundPlan,
    Settle,
)
from sordino_protocols.models import parameter_count
from sordino_protocols.pricing import resolve
from sordino_protocols.scaling import Scaling
from sordino_protocols.signing import (
    Signer,
    TrustStore,
    load_public_key,
    load_signer,
    save_keypair,
)
from sordino_protocols.wire import open_sealed, seal

NAME = "cleveland"
DATASET = "heart"
RECORDS = 160
FEATURES = 5
"""Two numbers and three words of the ward, whichever number is the label."""
CANARY_NUMBER = "123456.789"
CANARY_WORD = "zz-canary-word-zz"

SCHEMA = f"""
[dataset]
name = "{DATASET}"
version = 1
order_of_magnitude = 100
holdout_fraction = 0.25
[source]
kind = "csv"
path = "records.csv"
[columns.age]
type = "integer"
min = 20
max = 90
[columns.chol]
type = "number"
min = 0
max = 1e6
[columns.ward]
type = "category"
values = ["north", "south"]
other = "elsewhere"
[columns.num]
type = "integer"
min = 0
max = 4
[roles]
label = "num"
positive_above = 0
"""

CLASSES_SCHEMA = SCHEMA.replace("positive_above = 0", 'task = "classes"')
NUMBER_SCHEMA = SCHEMA.replace(
    'label = "num"\npositive_above = 0', 'label = "age"\ntask = "number"'
)
ENTITY_SCHEMA = SCHEMA.replace(
    "order_of_magnitude = 100",
    'order_of_magnitude = 100\nunit = "patient"\nmax_records_per_unit = 2',
)

POLICY = f"""
[datasets.{DATASET}]
submitters = ["scientist"]
kinds = ["train"]
models = ["logistic", "mlp"]
max_epsilon = 4.0
max_delta = 1e-5
max_rounds = 50
min_expected_batch = 20
[budgets.{DATASET}]
epsilon = 8.0
delta = 1e-5
"""

ASKING = f"""
[[datasets.{DATASET}.rules]]
action = "ask"
approvals = 2
approvers = ["alice", "bob", "carol"]
expires_after_hours = 24
"""
"""What makes the policy ask two people about every job."""

JOB = job_text("[audit]\nlanes = 8", epsilon=3)
CLASSES_JOB = of_classes(JOB, outputs=5)
NUMBER_JOB = of_numbers(JOB)
ENTITY_JOB = of_entities(JOB)
MOMENTS_JOB = JOB + '[statistics]\nkind = "moments"\n'
QUANTILES_JOB = JOB + '[statistics]\nkind = "quantiles"\nbins = 8\n'


@cache
def make_job(text: str = JOB) -> Job:
    """A job with its noise; each text is resolved once."""
    return resolve(read_file(text))


def garble(features: FeatureArray) -> npt.NDArray[np.float32]:
    """Features whose reading fails, as libraries fail: with the record in the error's text."""
    return features.astype(np.float32).view(_Garbled)


class _Garbled(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
    def __getitem__(self, index: object) -> "_Garbled":
        raise ValueError(f"could not convert {CANARY_NUMBER} and {CANARY_WORD} at {index!r}")

    def take(self, indices: object, *_: object, **__: object) -> "_Garbled":  # type: ignore[override]
        return self[indices]


def find_canary(evidence: bytes) -> bool:
    """Whether a canary occurs, as text or as the bytes of the number."""
    number = float(CANARY_NUMBER)
    needles = [CANARY_NUMBER, CANARY_NUMBER.replace(".", ""), "123456", CANARY_WORD]
    spelled = [needle.encode() for needle in needles]
    packed = [struct.pack("<d", number), struct.pack(">d", number), number.hex().encode()]
    return any(needle in evidence for needle in spelled + packed)


@dataclass
class OneSite:
    """A site below `directory`, with the keys of its server and of one submitter.

    Attributes:
        directory: everything; `site.toml` lies in it.
        policy: text of the policy that the next `open` reads; None removes it.
        schema: text of the data set's declaration, read as the policy is.
        noise: what releases rest on.
        now: the time at the site, until a test changes it.
        masks: its keys for sums; None: it takes part in none.
    """

    directory: Path
    policy: str | None = POLICY
    schema: str = SCHEMA
    noise: Noise = field(default_factory=SecureNoise)
    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    masks: MaskKeys | None = None

    def prepare(self) -> None:
        """Write keys, declarations and records."""
        here = self.directory
        for keys, name in (("keys", NAME), ("elsewhere", "server"), ("elsewhere", "scientist")):
            save_keypair(here / keys, name)
        (here / "submitters").mkdir()
        for name, folder in (("server", "keys"), ("scientist", "submitters")):
            line = (here / "elsewhere" / f"{name}.pub").read_text()
            (here / folder / f"{name}.pub").write_text(line)
        (here / "datasets.d").mkdir()
        self.write_schema()
        (here / "datasets.d" / "records.csv").write_text(_records())
        (here / "site.toml").write_text(_site_file())

    @property
    def config(self) -> SiteConfig:
        """What `site.toml` says."""
        return load_config(self.directory / "site.toml")

    @property
    def server(self) -> Signer:
        """The server, which this site trusts."""
        return load_signer(self.directory / "elsewhere" / "server.key", "server")

    @property
    def submitter(self) -> Signer:
        """The one whose jobs count here."""
        return load_signer(self.directory / "elsewhere" / "scientist.key", "scientist")

    def approver(self, name: str) -> Signer:
        """Somebody whose yes counts here, from the next `open` or reload on."""
        elsewhere = self.directory / "elsewhere"
        if not (elsewhere / f"{name}.key").exists():
            save_keypair(elsewhere, name)
        trusted = self.directory / "approvers"
        trusted.mkdir(exist_ok=True)
        (trusted / f"{name}.pub").write_text((elsewhere / f"{name}.pub").read_text())
        return load_signer(elsewhere / f"{name}.key", name)

    def write_policy(self) -> None:
        """Put the policy in place."""
        path = self.directory / "policy.toml"
        if self.policy is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(self.policy)

    def write_schema(self) -> None:
        """Put the data set's declaration in place."""
        (self.directory / "datasets.d" / "heart.toml").write_text(self.schema)

    def open(self, *, training: Table | None = None) -> Site:
        """Start the site, forgetting the one before; with other records in place of `training`."""
        self.close()
        self.write_policy()
        self.write_schema()
        section, state = self.config.site, self.config.site.state
        declared = read_dataset(section.datasets / "heart.toml")
        loaded, heldout = split(load_table(declared), fraction=0.25, key=bytes(range(32)))
        self.outbox = Outbox(state / "outbox")
        self.metrics = SiteMetrics()
        self.ledger = open_ledger(
            self.config.ledger_path,
            self.outbox,
            now=lambda: self.now,
            observe_fsync=self.metrics.fsynced,
        )
        self.runs = AdmittedRuns(state / "runs")
        self.approvals = Approvals(state / "approvals", site=NAME, now=lambda: self.now)
        self.audit_log = AuditLog(self.config.audit_log_path, now=lambda: self.now)
        self.datasets = {DATASET: SiteDataset(declared.public, training or loaded, heldout)}
        # Bound anew: a test may capture what is logged.
        structlog.reset_defaults()
        self.state = SiteState(
            self.ledger,
            self.outbox,
            self.runs,
            self.approvals,
            self.audit_log,
            WitnessStore(self.config.witness_path),
        )
        self.site = Site(
            load_signer(section.signing_key, section.name),
            TrustStore({"server": load_public_key(section.server_key)}),
            read_rules(self.config),
            datasets=self.datasets,
            state=self.state,
            engine=Engine(self.noise, Performance(), self.metrics.tallied),
            metrics=self.metrics,
            network_cut_off=False,
            now=lambda: self.now,
            masks=self.masks,
        )
        self.desk = ApprovalDesk(
            self.approvals,
            self.runs,
            self.ledger,
            self.datasets,
            self.audit_log,
            lambda: self.site.rules,
        )
        self.reloader = Reloader(self.config, self.site, self.audit_log)
        self.watch = LedgerWatch(self.ledger)
        watch_site(
            self.metrics,
            self.state,
            self.desk,
            self.site,
            name=NAME,
            watch=self.watch,
            datasets=self.datasets,
        )
        return self.site

    def close(self) -> None:
        """Let go of the ledger, as the end of a process does."""
        if hasattr(self, "ledger"):
            self.ledger.close()

    def ask(self, message: Message) -> Message:
        """The site's answer to a message of its server."""
        return self.read(self.site.answer(self.seal(message)))

    def seal(self, message: Message) -> bytes:
        """A message as the server sends it."""
        return seal(message, self.server)

    def read(self, envelope: bytes) -> Message:
        """An answer as the server reads it; every answer is signed by the site."""
        trusted = TrustStore({NAME: load_public_key(self.directory / "keys" / f"{NAME}.pub")})
        return open_sealed(envelope, trusted).message

    @property
    def spent(self) -> float:
        """Epsilon that is spent for ever."""
        return self.site.balances()[DATASET].spent

    @property
    def held(self) -> float:
        """Epsilon that running jobs hold on top."""
        return self.site.balances()[DATASET].held

    def admit(self, run_id: str = "run-1", job: Job | None = None) -> Admit:
        """A request to take part, with a job that the submitter signed."""
        return Admit(run_id, sign(self, job or make_job(), run_id=run_id))


def weights_for(job: Job, *, value: float = 0.0) -> npt.NDArray[np.float32]:
    """Weights of the shape that a job's rounds have here."""
    training = job.plan.require_training()
    size = parameter_count(job.file.require_model(), FEATURES) + training.extra_coordinates
    return np.full(size, value, dtype=np.float32)


def scaling_for(job: Job) -> npt.NDArray[np.float32]:
    """A scaling of the shape that a job's rounds have here, which changes nothing."""
    if job.plan.statistics is None:
        return np.zeros(0, dtype=np.float32)
    return Scaling(np.zeros(FEATURES), np.ones(FEATURES)).vector()


def round_plan(
    number: int = 1, *, run_id: str = "run-1", job: Job | None = None, value: float = 0.0
) -> RoundPlan:
    """A round of a run."""
    job = job or make_job()
    weights, scaling = weights_for(job, value=value), scaling_for(job)
    return RoundPlan(run_id, job.digest(), number, weights, scaling)


def measure(*, run_id: str = "run-1", job: Job | None = None) -> Measure:
    """The feature statistics of a run."""
    return Measure(run_id, (job or make_job(MOMENTS_JOB)).digest())


def evaluate(*, run_id: str = "run-1", job: Job | None = None, value: float = 0.0) -> Evaluate:
    """The evaluation of a run."""
    job = job or make_job()
    weights, scaling = weights_for(job, value=value), scaling_for(job)
    return Evaluate(run_id, job.digest(), weights, scaling)


def settle(*, run_id: str = "run-1", job: Job | None = None) -> Settle:
    """The end of a run."""
    return Settle(run_id, (job or make_job()).digest())


def refusal(answer: Message) -> Refusal:
    """Why the site refused, which it must have."""
    assert isinstance(answer, Refused), answer
    return answer.refusal


def kinds(site: OneSite) -> list[object]:
    """What kinds of entries the site's ledger has, in order."""
    return [entry["kind"] for entry in read_entries(site.config.ledger_path)]


def sign(
    site: OneSite, job: Job, *, run_id: str = "run-1", purpose: Purpose | None = None
) -> SignedJob:
    """A job as the submitter of this site signs it, by default to be run: the same for a run."""
    nonce = hashlib.sha256(run_id.encode()).hexdigest()[:32]
    return sign_job(job, site.submitter, purpose=purpose or job.purpose, nonce=nonce)


def _records() -> str:
    rng = np.random.default_rng(5)
    lines = ["age,chol,ward,num,patient"]
    for row in range(RECORDS):
        chol = CANARY_NUMBER if row % 4 == 0 else f"{rng.uniform(100, 400):.1f}"
        ward = CANARY_WORD if row % 4 == 1 else rng.choice(["north", "south"])
        # A patient has two or three records.
        lines.append(f"{rng.integers(20, 90)},{chol},{ward},{rng.integers(0, 5)},p{row * 3 // 8}")
    return "\n".join(lines) + "\n"


def _site_file() -> str:
    return f"""
[site]
name = "{NAME}"
state = "state"
socket = "v.sock"
policy = "policy.toml"
datasets = "datasets.d"
submitters = "submitters"
server_key = "keys/server.pub"
signing_key = "keys/{NAME}.key"

[link]
server = "127.0.0.1:1"
ca_certificate = "ca.crt"
node_key = "keys/node.key"
"""
