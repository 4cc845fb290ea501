"""A federation in memory: the server's and the sites' own code, made-up keys, a scratch disk.

Nothing here computes what production computes: jobs are signed and admitted, ledgers are charged,
updates are sealed, checked and aggregated by the very functions that do it in production. The one
thing that is made up is the network. Sites stay open from one run to the next, as daemons do, so
that a job is priced once; when their budget has no room for another run, new ones are made.
"""

import datetime as dt
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sordino_audit.replay.records import SiteRecords
from sordino_client.admission import SiteState
from sordino_client.admitted import AdmittedRuns
from sordino_client.approvals import Approvals
from sordino_client.data.table import Table
from sordino_client.judging import Rules
from sordino_client.ledger import Ledger
from sordino_client.mechanisms import Engine, SiteDataset
from sordino_client.metrics import SiteMetrics
from sordino_client.outbox import Outbox
from sordino_client.policy import parse_policy
from sordino_client.site import Site
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise
from sordino_client.witness import WitnessStore
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job, new_nonce, sign_job
from sordino_protocols.messages import RoundPlan, Update, Vector
from sordino_protocols.models import FloatVector
from sordino_protocols.scaling import Scaling
from sordino_protocols.schema import Schema
from sordino_protocols.signing import Signer, TrustStore
from sordino_protocols.wire import open_sealed
from sordino_server.coordinator import Coordinator
from sordino_server.exchange import Exchange
from sordino_server.heads import HeadStore
from sordino_server.local_grid import Answerer, LocalGrid
from sordino_server.questions import RunFailedError
from sordino_server.runs import RunDirectory, Runs
from sordino_server.strategy import Strategy

_MEMORY = Path("/dev/shm")  # noqa: S108 (made-up state; a private directory is made in it)
TARGET = "target"
"""The site that may hold canaries."""
LARGEST_BUDGET = 1000.0
"""The largest that a policy can give."""
_POLL_SECONDS = 0.001


@dataclass(slots=True, eq=False)
class RoundView:
    """What crossed the wire in one round.

    Attributes:
        weights: what the server sent: the aggregated model, threshold and lanes.
        updates: what each site released, by site.
    """

    weights: Vector
    updates: dict[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class RunView:
    """What a run let out.

    Attributes:
        rounds: in order.
        model: the released model's weights.
        scaling: of the features; None where they enter as the schema scales them.
    """

    rounds: tuple[RoundView, ...]
    model: FloatVector
    scaling: Scaling | None


class Federation:
    """A server and its sites, for as many runs of one job as their budgets have room for."""

    def __init__(
        self,
        directory: Path,
        job: Job,
        schema: Schema,
        *,
        sites: int,
        noise: Noise,
        budget_epsilon: float = LARGEST_BUDGET,
    ) -> None:
        """Open a federation in an empty directory.

        Args:
            directory: of all state.
            job: that it will run.
            schema: of every site.
            sites: how many.
            noise: what the sites' releases rest on; `SecureNoise` in the product.
            budget_epsilon: of each site's lifetime, at the job's delta.
        """
        self._job = job
        self._server, self._submitter = _make_signer("server"), _make_signer("auditor")
        names = site_names(sites)
        signers = {name: _make_signer(name) for name in names}
        self._trusted = _trust(*signers.values())
        self._runs = Runs(directory / "runs")
        self._heads = directory / "heads"
        policy = parse_policy(_policy_text(job, budget_epsilon), directory / "policy.toml")
        rules = Rules(policy, _trust(self._submitter), TrustStore({}))
        self._sites = {
            name: _OpenSite(
                directory / name,
                signer,
                _trust(self._server),
                rules=rules,
                schema=schema,
                noise=noise,
            )
            for name, signer in signers.items()
        }
        self._budget = policy.budget(schema.lineage)

    def has_room(self) -> bool:
        """Whether every site's budget has room for another run."""
        event, budget = self._job.plan.event, self._budget
        return budget is not None and all(
            site.ledger.fits(site.schema.lineage, event, budget) for site in self._sites.values()
        )

    def run(self, training: Sequence[Table], records: Sequence[SiteRecords]) -> RunView:
        """Run the job once.

        Args:
            training: what each site learns from.
            records: what each site evaluates on.

        Raises:
            InputError: the sites or the server refuse the job; says why.
        """
        for site, table, own in zip(self._sites.values(), training, records, strict=True):
            site.hold(table, own.heldout)
        signed = sign_job(self._job, self._submitter, purpose="train", nonce=new_nonce())
        run = self._runs.create(signed)
        wire = _Wire(_trust(self._server), self._trusted)
        grid = LocalGrid({name: wire.between(site) for name, site in self._sites.items()})
        strategy = Strategy(Exchange(grid, _POLL_SECONDS), self._server, self._trusted)
        try:
            # A store for each run: checking the heads of all runs would take most of the time.
            heads = HeadStore(self._heads / run.run_id, self._trusted)
            Coordinator(run, strategy, heads).execute()
        except RunFailedError as error:
            raise InputError(f"the job cannot be replayed: {_reason(run, error)}") from error
        return RunView(tuple(wire.rounds.values()), run.model(), run.scaling())

    def close(self) -> None:
        """Let go of every site's files."""
        for site in self._sites.values():
            site.ledger.close()


def site_names(count: int) -> tuple[str, ...]:
    """The sites of a replay: the target first, then whoever may poison."""
    return (TARGET, *(f"other-{number}" for number in range(1, count)))


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A private directory that is gone afterwards, in memory where there is such a place."""
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="sordino-replay-", dir=place) as name:
        yield Path(name)


class _OpenSite:
    """A site whose data set is replaced between runs, as an admin may do."""

    def __init__(
        self,
        directory: Path,
        signer: Signer,
        server: TrustStore,
        *,
        rules: Rules,
        schema: Schema,
        noise: Noise,
    ) -> None:
        self.schema = schema
        self.ledger = Ledger(directory / "ledger.db", now=_now)
        self._datasets: dict[str, SiteDataset] = {}
        self._site = Site(
            signer,
            server,
            rules,
            datasets=self._datasets,
            state=SiteState(
                self.ledger,
                Outbox(directory / "outbox"),
                AdmittedRuns(directory / "runs"),
                Approvals(directory / "approvals", site=signer.name, now=_now),
                AuditLog(directory / "audit.log", now=_now),
                WitnessStore(directory / "witness"),
            ),
            engine=Engine(noise, Performance()),
            metrics=SiteMetrics(),
            network_cut_off=False,
            now=_now,
        )

    def hold(self, training: Table, heldout: Table) -> None:
        self._datasets[self.schema.dataset.name] = SiteDataset(self.schema, training, heldout)

    def answer(self, envelope: bytes) -> bytes:
        return self._site.answer(envelope)


class _Wire:
    """Takes down the weights and the updates that cross the wire."""

    def __init__(self, server: TrustStore, sites: TrustStore) -> None:
        self._server = server
        self._sites = sites
        self.rounds: dict[int, RoundView] = {}

    def between(self, site: _OpenSite) -> Answerer:
        """The site, overheard."""

        def answer(envelope: bytes) -> bytes:
            reply = site.answer(envelope)
            request = open_sealed(envelope, self._server).message
            said = open_sealed(reply, self._sites)
            if isinstance(request, RoundPlan) and isinstance(said.message, Update):
                view = self.rounds.setdefault(request.round, RoundView(request.weights))
                view.updates[said.sender] = said.message.vector
            return reply

        return answer


def _policy_text(job: Job, budget_epsilon: float) -> str:
    """A policy that allows this job and no other kind, and many runs of it."""
    file, rounds = job.file, job.plan.rounds
    name, delta = file.job.dataset, file.require_privacy().delta
    return f"""
[budgets.{name!r}]
epsilon = {budget_epsilon!r}
delta = {delta!r}
[datasets.{name!r}]
submitters = ["auditor"]
kinds = ["train"]
models = ["{file.require_model().kind}"]
max_epsilon = {file.require_privacy().epsilon!r}
max_delta = {delta!r}
max_rounds = {rounds}
min_expected_batch = 0.0
max_lanes = {max(job.plan.lanes, 1)}
max_clipping_norm = {_largest_norm(job)!r}
"""


def _largest_norm(job: Job) -> float:
    return float(np.nextafter(job.plan.require_training().largest_clipping_norm, np.inf))


def _reason(run: RunDirectory, error: RunFailedError) -> str:
    """What the run's log says of refusals, else what the run failed with."""
    refused = [entry["refused"] for entry in run.events() if entry.get("refused")]
    return f"{error}; refused: {refused[-1]}" if refused else str(error)


def _make_signer(name: str) -> Signer:
    return Signer(name, Ed25519PrivateKey.generate())


def _trust(*signers: Signer) -> TrustStore:
    return TrustStore({each.name: each.key.public_key() for each in signers})


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
