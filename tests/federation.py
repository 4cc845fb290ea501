"""A federation in memory, for tests: real keys, real sites with small real tables, a real grid.

Everything is what runs in production but the processes and the network between them. A site keeps
its state in a directory, so that a test can kill it (forget the object) and start it again.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from one_site import DATASET, POLICY
from small_job import job_text, of_classes, of_entities, of_numbers, read_file

from sordino_client.admission import SiteState
from sordino_client.admitted import AdmittedRuns
from sordino_client.approvals import Approvals
from sordino_client.data.table import Table
from sordino_client.entities import group
from sordino_client.judging import Rules
from sordino_client.ledger import Ledger
from sordino_client.mechanisms import Engine, SiteDataset
from sordino_client.metrics import SiteMetrics
from sordino_client.outbox import Outbox
from sordino_client.policy import load_policy
from sordino_client.site import Site
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise, SecureNoise
from sordino_client.witness import WitnessStore
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, Purpose, new_nonce, sign_job
from sordino_protocols.model_file import ReleasedModel
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_protocols.signing import Signer, TrustStore
from sordino_server.contradictions import ContradictionReader, Contradictions
from sordino_server.coordinator import Coordinator
from sordino_server.decisions import Decisions
from sordino_server.exchange import Exchange
from sordino_server.heads import HeadStore
from sordino_server.local_grid import Answerer, LocalGrid
from sordino_server.runs import RunDirectory
from sordino_server.state_location import HEADS, heads_in, runs_in
from sordino_server.storage import DirectoryStorage, Storage
from sordino_server.strategy import Strategy

SERVER = "server"
SUBMITTER = "scientist"
ORDER_OF_MAGNITUDE = 200
FEATURES = 3

SCHEMA = f"""
[dataset]
name = "{DATASET}"
version = 1
order_of_magnitude = {ORDER_OF_MAGNITUDE}
holdout_fraction = 0.25
[columns.age]
type = "number"
min = 0
max = 100
[columns.chol]
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

CLASSES_SCHEMA = SCHEMA.replace("max = 1\n[roles]", "max = 2\n[roles]").replace(
    "positive_above = 0", 'task = "classes"'
)
NUMBER_SCHEMA = SCHEMA.replace(
    '"integer"\nmin = 0\nmax = 1\n', '"number"\nmin = 0\nmax = 10\n'
).replace("positive_above = 0", 'task = "number"')
ENTITY_SCHEMA = SCHEMA.replace(
    "[columns.age]", 'unit = "patient"\nmax_records_per_unit = 2\n[columns.age]'
)

JOB = job_text(
    """
[audit]
lanes = 8
[cohort]
quorum = 2
deadline_seconds = 60
grace_seconds = 0
"""
)
CLASSES_JOB = of_classes(JOB, outputs=3)
NUMBER_JOB = of_numbers(JOB).replace("[audit]", "[evaluation]\nbins = 100\nshare = 0.5\n[audit]")
ENTITY_JOB = of_entities(JOB)
STATISTICS_JOB = JOB + '[statistics]\nkind = "moments"\nshare = 0.3\n'


def make_signer(name: str) -> Signer:
    """Somebody with a new key."""
    return Signer(name, Ed25519PrivateKey.generate())


def trust(*signers: Signer) -> TrustStore:
    """A store that trusts exactly these."""
    return TrustStore({each.name: each.key.public_key() for each in signers})


@cache
def make_job(text: str = JOB) -> Job:
    """A job with its noise; calibration takes a while, so each text is resolved once."""
    return resolve(read_file(text))


def make_table(records: int, *, seed: int, schema: Schema | None = None) -> Table:
    """Records in which the label follows the first feature; pairs of them where units are named."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, size=(records, FEATURES)).astype(np.float32)
    followed = features[:, 0] + rng.normal(0, 0.3, records)
    labels = {
        "binary": (followed > 0).astype(np.float32),
        "classes": np.digitize(followed, [-0.4, 0.4]).astype(np.float32),
        "number": np.clip(followed, -1, 1).astype(np.float32),
    }[schema.task if schema else "binary"]
    pairs = (np.arange(records) // 2).astype(np.object_)
    entities = group(pairs) if schema and schema.dataset.unit else None
    return Table(features, labels, entities)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class SmallSite:
    """One site on a directory. `open` starts it; opening again is a restart.

    Attributes:
        directory: its state; survives a restart.
        signer: its own key.
        server: the server's public key, as the site has it.
        submitters: whose jobs count.
        policy: text of its policy; None for a site without one.
        schema: text of its data set's declaration.
        noise: what its releases rest on.
        requests: every envelope that it was asked with, in order.
        approvers: who may decide about jobs.
        masks: its keys for sums.
        now: its clock.
    """

    directory: Path
    signer: Signer
    server: TrustStore
    submitters: TrustStore
    policy: str | None = POLICY
    schema: str = SCHEMA
    noise: Noise = field(default_factory=SecureNoise)
    requests: list[bytes] = field(default_factory=list)
    approvers: TrustStore = field(default_factory=lambda: TrustStore({}))
    masks: MaskKeys | None = None
    now: Callable[[], dt.datetime] = _now

    def open(self) -> Site:
        """Start the site, forgetting the one that ran before."""
        self.close()
        self.directory.mkdir(exist_ok=True)
        policy = self.directory / "policy.toml"
        if self.policy is None:
            policy.unlink(missing_ok=True)
        else:
            policy.write_text(self.policy)
        schema = parse_toml(self.schema, Schema, source="dataset.toml")
        seed = int.from_bytes(self.signer.name.encode(), "big") % 2**32
        dataset = SiteDataset(
            schema,
            make_table(150, seed=seed, schema=schema),
            make_table(50, seed=seed + 1, schema=schema),
        )
        self.ledger = Ledger(self.directory / "ledger.db", now=self.now)
        self.outbox = Outbox(self.directory / "outbox")
        self.site = Site(
            self.signer,
            self.server,
            Rules(load_policy(policy), self.submitters, self.approvers),
            datasets={DATASET: dataset},
            state=SiteState(
                self.ledger,
                self.outbox,
                AdmittedRuns(self.directory / "runs"),
                Approvals(self.directory / "approvals", site=self.signer.name, now=self.now),
                AuditLog(self.directory / "audit.log", now=self.now),
                WitnessStore(self.directory / "witness"),
            ),
            engine=Engine(self.noise, Performance()),
            metrics=SiteMetrics(),
            network_cut_off=False,
            now=self.now,
            masks=self.masks,
        )
        return self.site

    def close(self) -> None:
        """Let go of the ledger, as the end of a process does."""
        if hasattr(self, "ledger"):
            self.ledger.close()

    def answer(self, envelope: bytes) -> bytes:
        """Answer as the running site does; what a grid calls."""
        self.requests.append(envelope)
        return self.site.answer(envelope)

    @property
    def held(self) -> float:
        """Epsilon that running jobs hold and have not spent."""
        return self.site.balances()[DATASET].held

    @property
    def spent(self) -> float:
        """Epsilon that is spent for ever."""
        return self.site.balances()[DATASET].spent


class Federation:
    """A server's keys and directory, a submitter, and sites that are open."""

    def __init__(
        self,
        directory: Path,
        names: Iterable[str] = ("a", "b", "c"),
        *,
        policy: str | None = POLICY,
        schema: str = SCHEMA,
        state: Storage | None = None,
    ) -> None:
        self.server = make_signer(SERVER)
        self.submitter = make_signer(SUBMITTER)
        self._audit_log_path = directory / "audit.log"
        self._state = state or DirectoryStorage(directory)
        self.runs = runs_in(self._state)
        self.sites = {
            name: SmallSite(
                directory / name,
                make_signer(name),
                trust(self.server),
                trust(self.submitter),
                policy=policy,
                schema=schema,
            )
            for name in names
        }
        pairs = {name: X25519PrivateKey.generate() for name in self.sites}
        public = {name: pair.public_key() for name, pair in pairs.items()}
        for name, site in self.sites.items():
            peers = {peer: key for peer, key in public.items() if peer != name}
            site.masks = MaskKeys(name, pairs[name], peers)
            site.open()

    @property
    def trusted_sites(self) -> TrustStore:
        """The sites' keys as the server has them."""
        return trust(*(site.signer for site in self.sites.values()))

    @property
    def heads(self) -> HeadStore:
        """What the server remembers of the sites' ledgers, read anew."""
        return heads_in(self._state, self.trusted_sites, audit_log=self.audit_log)

    @property
    def contradictions(self) -> Contradictions:
        """What the sites showed that contradicts what they showed before, read anew."""
        return ContradictionReader(self._state.within(HEADS), self._audit_log_path).read

    @property
    def audit_log(self) -> AuditLog:
        """The server's audit log, read anew."""
        return AuditLog(self._audit_log_path, now=_now)

    def submit(
        self,
        job: Job | None = None,
        *,
        purpose: Purpose | None = None,
        brought: ReleasedModel | None = None,
    ) -> RunDirectory:
        """Queue a job, signed by the submitter; by default to be run."""
        job = job or make_job()
        signed = sign_job(job, self.submitter, purpose=purpose or job.purpose, nonce=new_nonce())
        return self.runs.create(signed, brought=brought)

    def grid(self, changed: Mapping[str, Answerer] | None = None) -> LocalGrid:
        """A grid of all sites, some of them answering as the test says."""
        answerers: dict[str, Answerer] = {name: site.answer for name, site in self.sites.items()}
        return LocalGrid(answerers | dict(changed or {}))

    def strategy(
        self, grid: LocalGrid | None = None, *, clock: Callable[[], float] | None = None
    ) -> Strategy:
        """The server's strategy on a grid, by default of all sites as they are."""
        exchange = Exchange(grid or self.grid(), poll_seconds=0.001)
        if clock is None:
            return Strategy(exchange, self.server, self.trusted_sites)
        return Strategy(exchange, self.server, self.trusted_sites, clock=clock)

    def coordinator(self, run: RunDirectory, grid: LocalGrid | None = None) -> Coordinator:
        """A server app on a run's directory, as Flower starts it."""
        decisions = Decisions(self.audit_log)
        return Coordinator(run, self.strategy(grid), self.heads, decisions=decisions)

    def close(self) -> None:
        """Let go of every site's files."""
        for site in self.sites.values():
            site.close()
