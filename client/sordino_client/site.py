"""What a site answers. The file a privacy officer reads.

One request comes in, one signed answer goes out, and every answer takes one of two ways. `_say`
sends declared facts: nothing there looks at a record. `_release` sends what depends on records, and
in this order, each step on disk before the next: the ledger reserves its cost, the mechanism runs,
the outbox stores the bytes, the ledger commits, the bytes leave. A repeated request gets the stored
bytes; a changed one is refused; a crash in between leaves the cost spent and the release unmade or
stored, never made twice.

A run that was admitted goes on under the rules of its admission, with two exceptions, for the admin
who changes the policy and restarts the vault: without a table for the data set nothing new is
released, and no release takes what was spent past the budget as it is now.

Whatever goes wrong, the outside learns an enum. The reason goes to the site's own log, without any
text that a parser or a library could have put a record into.
"""

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from sordino_client.admitted import AdmittedRun, AdmittedRuns
from sordino_client.ledger import Balance, Ledger
from sordino_client.mechanisms import (
    Engine,
    SiteDataset,
    noisy_evaluation,
    noisy_feature_statistics,
    noisy_update,
)
from sordino_client.metrics import SiteMetrics
from sordino_client.outbox import Outbox, Release
from sordino_client.policy import Decision, Policy, decide
from sordino_client.receipts import make_receipt
from sordino_client.refusals import RefusedError, refusal_for
from sordino_client.suitability import unsuitable
from sordino_protocols.bits import pack_bits
from sordino_protocols.errors import InputError, IntegrityError, SordinoError
from sordino_protocols.feature_statistics import measured_features
from sordino_protocols.job import Job, SignedJob, verify_job
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluate,
    Evaluation,
    Inquire,
    Measure,
    Quote,
    Refusal,
    Refused,
    Reply,
    RoundPlan,
    Settle,
    Statistics,
    Update,
    Vector,
)
from sordino_protocols.models import parameter_count
from sordino_protocols.pricing import Price, price
from sordino_protocols.privacy import Event, Guarantee
from sordino_protocols.scaling import Scaling, scaling_from
from sordino_protocols.signing import Signer, TrustStore
from sordino_protocols.wire import Opened, open_sealed, seal

_STATISTICS = "statistics"
_EVALUATION = "evaluation"
_RECEIPT = "receipt"
_ADMISSION = "admission"


@dataclass(frozen=True, slots=True)
class SiteTrust:
    """Whose bytes count: the server's messages and the submitters' jobs."""

    server: TrustStore
    submitters: TrustStore


@dataclass(frozen=True, slots=True)
class SiteState:
    """What a site remembers: all of it on disk."""

    ledger: Ledger
    outbox: Outbox
    runs: AdmittedRuns


class Site:
    """One site. Answers are given one at a time; threads may call at will."""

    def __init__(
        self,
        signer: Signer,
        trust: SiteTrust,
        *,
        policy: Policy | None,
        datasets: Mapping[str, SiteDataset],
        state: SiteState,
        engine: Engine,
        metrics: SiteMetrics,
        network_cut_off: bool,
    ) -> None:
        self._signer = signer
        self._trust = trust
        self._policy = policy
        self._datasets = datasets
        self._ledger = state.ledger
        self._outbox = state.outbox
        self._runs = state.runs
        self._engine = engine
        self._metrics = metrics
        self._network_cut_off = network_cut_off
        self._lock = threading.Lock()
        self._log = structlog.get_logger(component="vault", site=signer.name)

    def answer(self, envelope: bytes) -> bytes:
        """Answer one sealed request with one sealed reply; never raises, never answers plainly."""
        run_id = ""
        try:
            opened = open_sealed(envelope, self._trust.server)
            run_id = opened.message.run_id
            with self._lock:
                return self._dispatch(opened)
        except SordinoError as error:
            return self._refuse(run_id, refusal_for(error), str(error))
        except Exception as error:  # noqa: BLE001  # the boundary: a bug must not become a message
            # No str(error): a library's text may quote a record.
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            return self._refuse(run_id, Refusal.INTERNAL, f"{type(error).__name__} at {place}")

    def balances(self) -> dict[str, Balance]:
        """The lifetime budget of every data set that the policy knows."""
        known = {} if self._policy is None else self._policy.file.datasets
        return {
            name: self._ledger.balance(name, rules.budget.guarantee)
            for name, rules in known.items()
        }

    def status(self) -> dict[str, object]:
        """Public facts for the site's own admin: policy, ledger, budgets."""
        return {
            "policy_sha256": None if self._policy is None else self._policy.sha256,
            "ledger_head": self._ledger.head,
            "ledger_entries": self._ledger.length,
            "budgets": {name: asdict(balance) for name, balance in self.balances().items()},
        }

    def _dispatch(self, opened: Opened) -> bytes:
        match opened.message:
            case Inquire(run_id, signed):
                return self._say(self._quote(run_id, signed))
            case Admit(run_id, signed):
                return self._admit(run_id, signed, opened.digest)
            case Measure(run_id, job_digest):
                return self._measure(self._admitted(run_id, job_digest), opened.digest)
            case RoundPlan(run_id, job_digest) as request:
                run = self._admitted(run_id, job_digest)
                return self._round(run, request, opened.digest)
            case Evaluate(run_id, job_digest) as request:
                run = self._admitted(run_id, job_digest)
                return self._evaluate(run, request, opened.digest)
            case Settle(run_id, job_digest):
                return self._settle(self._admitted(run_id, job_digest), opened.digest)
            case _:
                raise RefusedError(Refusal.MALFORMED, "this is no message for a site")

    # ------------------------------------------------------------------ releases, paid first

    def _measure(self, run: AdmittedRun, digest: str) -> bytes:
        plan = run.job.plan.statistics
        if plan is None:
            raise RefusedError(Refusal.OUT_OF_ORDER, "the job has no statistics")

        def release() -> Reply:
            vector = noisy_feature_statistics(plan, self._dataset(run.job), self._engine)
            return Statistics(run.run_id, run.job_digest, self._ledger.head, vector)

        return self._release(run, _STATISTICS, plan.event, digest, release)

    def _round(self, run: AdmittedRun, request: RoundPlan, digest: str) -> bytes:
        plan, number = run.job.plan.training, request.round
        if not 1 <= number <= plan.rounds:
            raise RefusedError(Refusal.OUT_OF_ORDER, f"the run has no round {number}")
        weights, scaling = self._checked(run, request.weights, request.scaling)

        def release() -> Reply:
            vector = noisy_update(
                run, self._dataset(run.job), self._engine, weights=weights, scaling=scaling
            )
            return Update(run.run_id, run.job_digest, number, self._ledger.head, vector)

        return self._release(run, f"round-{number}", plan.round_event, digest, release)

    def _evaluate(self, run: AdmittedRun, request: Evaluate, digest: str) -> bytes:
        weights, scaling = self._checked(run, request.weights, request.scaling)

        def release() -> Reply:
            table = noisy_evaluation(
                run.job, self._dataset(run.job), self._engine, weights=weights, scaling=scaling
            )
            return Evaluation(run.run_id, run.job_digest, self._ledger.head, table)

        return self._release(run, _EVALUATION, run.job.plan.evaluation.event, digest, release)

    def _release(
        self,
        run: AdmittedRun,
        step: str,
        event: Event,
        request_digest: str,
        mechanism: Callable[[], Reply],
    ) -> bytes:
        """Pay, make, store, commit, send: the only way on which anything about a record leaves."""
        if not self._engine.noise.is_secure:
            raise RefusedError(Refusal.INTERNAL, "the noise is not secure; nothing is released")
        stored = self._stored(run, step, request_digest)
        committed = self._ledger.committed(run.run_id, step)
        if committed is not None:
            if stored is None or stored.sha256 != committed:
                raise IntegrityError(f"the outbox lost or changed the release {run.run_id}/{step}")
            return stored.envelope
        budget = self._budget(run.job)
        if budget is None:
            raise RefusedError(Refusal.FORBIDDEN_BY_POLICY, "the policy has no such data set now")
        with self._metrics.charging(run.job.file.job.dataset, event):
            reservation = self._ledger.reserve(run.run_id, step, event, budget=budget)
        if stored is None:
            with self._metrics.training():
                stored = Release(request_digest, seal(mechanism(), self._signer))
            self._outbox.put(run.run_id, step, stored)
        self._ledger.commit(reservation, release_sha256=stored.sha256)
        self._log.info("released", run_id=run.run_id, step=step, ledger_head=self._ledger.head)
        return stored.envelope

    def _stored(self, run: AdmittedRun, step: str, request_digest: str) -> Release | None:
        stored = self._outbox.get(run.run_id, step)
        if stored is not None and stored.request_digest != request_digest:
            raise RefusedError(
                Refusal.CHANGED_REPLAY, f"{run.run_id}/{step} was answered to another request"
            )
        return stored

    # ------------------------------------------------------------------ declared facts

    def _say(self, reply: Reply) -> bytes:
        return seal(reply, self._signer)

    def _say_once(self, run: AdmittedRun, step: str, digest: str, reply: Reply) -> bytes:
        """Say the same bytes however often they are asked for."""
        release = Release(digest, self._say(reply))
        self._outbox.put(run.run_id, step, release)
        return release.envelope

    def _quote(self, run_id: str, signed: SignedJob) -> Quote:
        job, cost, decision = self._judge(signed)
        budget = self._budget(job)
        if budget is None:
            return Quote(
                run_id, decision.refusal, decision.rule, cost.epsilon_pld, cost.epsilon_rdp, 0.0
            )
        dataset = job.file.job.dataset
        refusal, rule = decision.refusal, decision.rule
        if refusal is None and not self._ledger.fits(dataset, job.plan.event, budget):
            refusal, rule = Refusal.BUDGET_EXHAUSTED, f"{rule}.budget"
        left = self._ledger.balance(dataset, budget).left
        return Quote(run_id, refusal, rule, cost.epsilon_pld, cost.epsilon_rdp, left)

    def _admit(self, run_id: str, signed: SignedJob, digest: str) -> bytes:
        run = self._runs.get(run_id)
        if run is not None and run.job_digest != signed.digest:
            raise RefusedError(Refusal.CHANGED_REPLAY, f"{run_id} is admitted with another job")
        if run is not None and (stored := self._stored(run, _ADMISSION, digest)) is not None:
            return stored.envelope
        job, _, decision = self._judge(signed)
        self._check_signed_for(run_id, signed)
        policy, budget = self._policy, self._budget(job)
        if decision.refusal is not None or policy is None or budget is None:
            raise RefusedError(decision.refusal or Refusal.NO_POLICY, _explain(decision))
        dataset, event = job.file.job.dataset, job.plan.event
        if run is None:
            if not self._ledger.fits(dataset, event, budget):
                raise RefusedError(Refusal.BUDGET_EXHAUSTED, f"{dataset} has too little left")
            # Before the hold: a hold without a run could never be settled.
            run = self._runs.add(run_id, job, nonce=signed.nonce)
        self._ledger.hold(
            run_id, dataset=dataset, event=event, budget=budget, policy_sha256=policy.sha256
        )
        self._log.info("admitted", run_id=run_id, job_digest=run.job_digest, rule=decision.rule)
        return self._say_once(run, _ADMISSION, digest, self._admission(run))

    def _admission(self, run: AdmittedRun) -> Admission:
        schema = self._dataset(run.job).schema
        measured = measured_features(schema) if run.job.plan.statistics else None
        return Admission(
            run_id=run.run_id,
            job_digest=run.job_digest,
            order_of_magnitude=schema.dataset.order_of_magnitude,
            feature_count=schema.feature_count,
            feature_digest=schema.feature_digest(),
            measured="" if measured is None else pack_bits(measured),
            label_scale=schema.label_scale,
            coins_commitment=run.commitment(self._signer.name),
            ledger_head=self._ledger.head,
        )

    def _settle(self, run: AdmittedRun, digest: str) -> bytes:
        stored = self._stored(run, _RECEIPT, digest)
        if stored is not None:
            return stored.envelope
        # From here on no round is answered with anything new, so the coins may be opened.
        self._ledger.settle(run.run_id)
        self._log.info("settled", run_id=run.run_id)
        receipt = make_receipt(
            run,
            self._ledger,
            budget=self._budget(run.job),
            network_cut_off=self._network_cut_off,
        )
        return self._say_once(run, _RECEIPT, digest, receipt)

    # ------------------------------------------------------------------ checks

    def _judge(self, signed: SignedJob) -> tuple[Job, Price, Decision]:
        job = verify_job(signed, self._trust.submitters)
        try:
            cost = price(job)
        except InputError as error:
            raise RefusedError(Refusal.UNPRICEABLE, str(error)) from None
        dataset = self._datasets.get(job.file.job.dataset)
        schema = None if dataset is None else dataset.schema
        decision = decide(
            self._policy,
            job,
            cost,
            submitter=signed.submitter,
            site=self._signer.name,
            schema=schema,
        )
        if schema is not None and decision.is_allowed:
            decision = unsuitable(job, schema, self._engine) or decision
        return job, cost, decision

    def _check_signed_for(self, run_id: str, signed: SignedJob) -> None:
        """A signature is good for what it says, and for one run: a server cannot spend it twice."""
        if signed.purpose != "train":
            raise RefusedError(Refusal.UNAUTHENTICATED, "the job was signed to be priced only")
        if self._runs.run_of(signed.nonce) not in (None, run_id):
            raise RefusedError(Refusal.CHANGED_REPLAY, "the signature was used for another run")

    def _admitted(self, run_id: str, job_digest: str) -> AdmittedRun:
        run = self._runs.get(run_id)
        if run is None:
            raise RefusedError(Refusal.NOT_ADMITTED, "the run was never admitted here")
        if run.job_digest != job_digest:
            raise RefusedError(Refusal.CHANGED_REPLAY, f"{run_id} is admitted with another job")
        return run

    def _checked(
        self, run: AdmittedRun, weights: Vector, scaling: Vector
    ) -> tuple[Vector, Scaling | None]:
        """Weights and scaling, if their shapes are the run's; `wire` saw that they are finite."""
        plan, features = run.job.plan, self._dataset(run.job).schema.feature_count
        size = parameter_count(run.job.file.model, features) + plan.training.extra_coordinates
        scaled = 0 if plan.statistics is None else 2 * features
        if weights.shape != (size,) or scaling.shape != (scaled,):
            reason = f"weights and scaling must have shapes ({size},) and ({scaled},)"
            raise RefusedError(Refusal.WRONG_SHAPE, reason)
        return weights, scaling_from(scaling) if scaled else None

    def _budget(self, job: Job) -> Guarantee | None:
        return None if self._policy is None else self._policy.budget(job.file.job.dataset)

    def _dataset(self, job: Job) -> SiteDataset:
        dataset = self._datasets.get(job.file.job.dataset)
        if dataset is None:
            raise RefusedError(Refusal.UNKNOWN_DATASET, "the data set is no longer here")
        return dataset

    def _refuse(self, run_id: str, refusal: Refusal, reason: str) -> bytes:
        self._metrics.refused(refusal)
        self._log.warning("refused", run_id=run_id, refusal=refusal.value, reason=reason)
        return seal(Refused(run_id, refusal), self._signer)


def _explain(decision: Decision) -> str:
    return f"{decision.rule}: asked {decision.asked or '-'}, allowed {decision.allowed or '-'}"
