"""What a site answers. The file a privacy officer reads.

One request comes in, one signed answer goes out, and every answer takes one of two ways. `_say`
sends declared facts: nothing there looks at a record. `_release` sends what depends on records, and
in this order, each step on disk before the next: the ledger reserves its cost, the mechanism runs,
the outbox stores the bytes, the ledger commits, the bytes leave. A repeated request gets the stored
bytes; a changed one is refused; a crash in between leaves the cost spent and the release unmade or
stored, never made twice.

A run is admitted when the policy allows its job, or when the policy asks and people at the site
said yes: that is `admission`. A run goes forward only: statistics, rounds, evaluation, and no step
before one that was paid for already; a run that synthesizes or counts has one step, its table. It
goes on under the rules of its admission, with two exceptions, for the admin who changes the policy:
without a budget for the data set nothing new is released, and no release takes what was spent past
the budget as it is now. A ledger that lost entries answers nothing at all until it was recovered.

Whatever goes wrong, the outside learns an enum. The reason goes to the site's own log, without any
text that a parser or a library could have put a record into.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import structlog

from sordino_client.admission import Admissions, SiteState
from sordino_client.admitted import AdmittedRun
from sordino_client.continuity import ADMISSION, RECEIPT, halt_if_behind, note_server_log
from sordino_client.declared import admission_of, balances_of, description_of, status_of
from sordino_client.judging import Rules
from sordino_client.ledger import Balance
from sordino_client.mechanisms import (
    Engine,
    SiteDataset,
    noisy_evaluation,
    noisy_feature_statistics,
    noisy_update,
)
from sordino_client.metrics import SiteMetrics
from sordino_client.outbox import Release
from sordino_client.receipts import make_receipt
from sordino_client.refusals import RefusedError, refused_as
from sordino_client.run_steps import (
    EVALUATION,
    STATISTICS,
    TABLES,
    UNMASKED,
    checked_scaling,
    logged_with,
    require_forward,
    round_step,
)
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.synthesis.masks import checked_missing
from sordino_client.synthesis.tabulation import tabulated, unmasked
from sordino_client.witness import RoundNotes, noted_rounds
from sordino_protocols.errors import IntegrityError
from sordino_protocols.heads import SignedHead, sign_head
from sordino_protocols.job import Job, SignedJob
from sordino_protocols.logs import seconds_since
from sordino_protocols.messages import (
    Admission,
    Admit,
    Describe,
    Evaluate,
    Evaluation,
    Inquire,
    Measure,
    Recall,
    Recalled,
    Refusal,
    Refused,
    Reply,
    RoundPlan,
    Settle,
    Statistics,
    Tabulate,
    Tabulated,
    Unmask,
    Unmasked,
    Update,
)
from sordino_protocols.privacy import Event, Guarantee
from sordino_protocols.signing import Signer, TrustStore
from sordino_protocols.wire import Opened, open_sealed, seal, version_for_answer

_OfARun = Measure | RoundPlan | Evaluate | Tabulate | Unmask | Settle
_HALTED_HELP = "stop the vault, find out why, then: sordino ledger recover"


class Site:
    """One site. Answers are given one at a time; threads may call at will."""

    def __init__(
        self,
        signer: Signer,
        server: TrustStore,
        rules: Rules,
        *,
        datasets: Mapping[str, SiteDataset],
        state: SiteState,
        engine: Engine,
        metrics: SiteMetrics,
        network_cut_off: bool,
        now: Callable[[], dt.datetime],
        masks: MaskKeys | None = None,
    ) -> None:
        self._signer = signer
        self._server = server
        self._rules = rules
        self._datasets = datasets
        self._masks = masks
        self._admissions = Admissions(
            signer.name, state, datasets=datasets, engine=engine, now=now, masks=masks
        )
        self._ledger = state.ledger
        self._outbox = state.outbox
        self._runs = state.runs
        self._audit_log = state.audit_log
        self._witness = state.witness
        self._engine = engine
        self._metrics = metrics
        self._network_cut_off = network_cut_off
        self._lock = threading.Lock()
        self._log = structlog.get_logger(component="vault", site=signer.name)

    def answer(self, envelope: bytes) -> bytes:
        """Answer one sealed request with one sealed reply; never raises, never answers plainly."""
        opened, version = None, version_for_answer(envelope)
        with ExitStack() as logged:
            try:
                opened = open_sealed(envelope, self._server)
                logged.enter_context(logged_with(opened.message))
                with self._lock:
                    return self._dispatch(opened)
            except Exception as error:  # noqa: BLE001  # the boundary: a bug must not become a message
                return self._refuse(opened, *refused_as(error), version)

    @property
    def rules(self) -> Rules:
        """What the admin decided, as it counts now."""
        return self._rules

    def change_rules(self, rules: Rules) -> None:
        """Go by other rules from the next request on. Waits for nothing: no request reads twice."""
        self._rules = rules

    def policy_sha256(self) -> str | None:
        """Of the policy that counts; None where there is none."""
        return None if (policy := self._rules.policy) is None else policy.sha256

    def balances(self) -> dict[str, Balance]:
        """The lifetime budget of every lineage that the policy knows."""
        return balances_of(self._ledger, self._rules.policy)

    def status(self) -> dict[str, object]:
        """Public facts for the site's own admin: policy, ledger, budgets."""
        return status_of(self._ledger, self._audit_log, self._rules.policy, advice=_HALTED_HELP)

    @property
    def halted(self) -> bool:
        """Whether the ledger lost entries, and nothing is answered until it was recovered."""
        return self._ledger.halted is not None

    def note_halted(self, reason: str) -> None:
        """Tell whoever reads the logs that nothing is answered, and what to do."""
        self._log.error("ledger_halted", reason=reason, help=_HALTED_HELP)
        self._record("halted", "ledger", reason)

    def _dispatch(self, opened: Opened) -> bytes:
        if isinstance(opened.message, Recall):
            return self._say(self._recall(opened.message, opened.sender), opened)
        self._require_whole_ledger()
        match opened.message:
            case Describe(run_id, signed):
                schema = self._admissions.described(signed, self._rules)
                return self._say(description_of(run_id, schema), opened)
            case Inquire(run_id, signed):
                return self._say(self._admissions.quote(run_id, signed, self._rules), opened)
            case Admit(run_id, signed):
                return self._admit(run_id, signed, opened)
            case Measure() | RoundPlan() | Evaluate() | Tabulate() | Unmask() | Settle() as request:
                run = self._admitted(request.run_id, request.job_digest)
                return self._go_on(run, request, opened)
            case _:
                raise RefusedError(Refusal.MALFORMED, "this is no message for a site")

    def _go_on(self, run: AdmittedRun, request: _OfARun, asked: Opened) -> bytes:
        match request:
            case Measure():
                return self._measure(run, asked)
            case RoundPlan():
                return self._round(run, request, asked)
            case Evaluate():
                return self._evaluate(run, request, asked)
            case Tabulate():
                return self._tabulate(run, asked)
            case Unmask(missing=missing):
                return self._unmask(run, missing, asked)
            case Settle():
                return self._settle(run, asked)

    # ------------------------------------------------------------------ releases, paid first

    def _measure(self, run: AdmittedRun, asked: Opened) -> bytes:
        plan = run.job.plan.statistics
        if plan is None:
            raise RefusedError(Refusal.OUT_OF_ORDER, "the job has no statistics")

        def release() -> Reply:
            vector = noisy_feature_statistics(plan, self._dataset(run.job), self._engine)
            return Statistics(run.run_id, run.job_digest, self._head(), vector)

        return self._release(run, STATISTICS, plan.event, asked, release)

    def _round(self, run: AdmittedRun, request: RoundPlan, asked: Opened) -> bytes:
        plan, number = run.job.plan.training, request.round
        if plan is None or not 1 <= number <= plan.rounds:
            raise RefusedError(Refusal.OUT_OF_ORDER, f"the run has no round {number}")
        dataset = self._dataset(run.job)
        scaling = checked_scaling(run.job, request, dataset.schema)

        def release() -> Reply:
            notes = RoundNotes() if number <= noted_rounds(plan) else None
            vector = noisy_update(
                run, dataset, self._engine, weights=request.weights, scaling=scaling, witness=notes
            )
            if notes is not None:  # before it is stored: of what leaves, the site saw every step
                self._witness.keep(run.run_id, number, notes.steps)
            return Update(run.run_id, run.job_digest, number, self._head(), vector)

        return self._release(run, round_step(number), plan.round_event, asked, release)

    def _evaluate(self, run: AdmittedRun, request: Evaluate, asked: Opened) -> bytes:
        dataset, event = self._dataset(run.job), run.job.plan.require_evaluation().event
        scaling = checked_scaling(run.job, request, dataset.schema)

        def release() -> Reply:
            table = noisy_evaluation(
                run.job, dataset, self._engine, weights=request.weights, scaling=scaling
            )
            return Evaluation(run.run_id, run.job_digest, self._head(), table)

        return self._release(run, EVALUATION, event, asked, release)

    def _tabulate(self, run: AdmittedRun, asked: Opened) -> bytes:
        plan, dataset = run.job.plan.tabulation, self._dataset(run.job)
        if plan is None:
            raise RefusedError(Refusal.OUT_OF_ORDER, "the job has no table")

        def release() -> Reply:
            numbers = tabulated(run, dataset, self._engine, self._masks)
            return Tabulated(run.run_id, run.job_digest, self._head(), numbers)

        return self._release(run, TABLES, plan.event, asked, release)

    def _release(
        self,
        run: AdmittedRun,
        step: str,
        event: Event,
        asked: Opened,
        mechanism: Callable[[], Reply],
    ) -> bytes:
        """Pay, make, store, commit, send: the only way on which anything about a record leaves."""
        if not self._engine.noise.is_secure:
            raise RefusedError(Refusal.INTERNAL, "the noise is not secure; nothing is released")
        stored = self._stored(run, step, asked)
        if (committed := self._ledger.committed(run.run_id, step)) is not None:
            if stored is None and self._ledger.books.runs[run.run_id].is_settled:
                raise RefusedError(Refusal.OUT_OF_ORDER, "the run is over, the release forgotten")
            if stored is None or stored.sha256 != committed:
                raise IntegrityError(f"the outbox lost or changed the release {run.run_id}/{step}")
            return stored.envelope
        require_forward(step, self._ledger.steps(run.run_id))
        if (budget := self._budget(run.job)) is None:
            raise RefusedError(Refusal.FORBIDDEN_BY_POLICY, "the policy has no such data set now")
        started = time.monotonic()
        with self._metrics.charging(run.job.file.job.dataset, event):
            reservation = self._ledger.reserve(run.run_id, step, event, budget=budget)
        if stored is None:
            with self._metrics.training(run.run_id):
                stored = Release(asked.digest, self._say(mechanism(), asked))
            self._outbox.put(run.run_id, step, stored)
        self._ledger.commit(reservation, release_sha256=stored.sha256)
        # How long it took depends on records: this log does not leave the host, nor does that.
        took, head = seconds_since(started), self._ledger.head
        self._log.info("released", run_id=run.run_id, step=step, ledger_head=head, dur_s=took)
        return stored.envelope

    def _stored(self, run: AdmittedRun, step: str, asked: Opened) -> Release | None:
        stored = self._outbox.get(run.run_id, step)
        if stored is not None and stored.request_digest != asked.digest:
            reason = f"{run.run_id}/{step} was answered to another request"
            raise RefusedError(Refusal.CHANGED_REPLAY, reason)
        return stored

    # ------------------------------------------------------------------ declared facts

    def _head(self) -> SignedHead:
        return sign_head(self._signer, length=self._ledger.length, hash=self._ledger.head)

    def _say(self, reply: Reply, asked: Opened) -> bytes:
        return seal(reply, self._signer, version=asked.version)

    def _say_once(self, run: AdmittedRun, step: str, asked: Opened, reply: Reply) -> bytes:
        """Say the same bytes however often they are asked for."""
        release = Release(asked.digest, self._say(reply, asked))
        self._outbox.put(run.run_id, step, release)
        return release.envelope

    def _recall(self, request: Recall, server: str) -> Recalled:
        """Whether this ledger goes on from what the server remembers of it."""
        note_server_log(self._audit_log, request, server=server)
        if reason := halt_if_behind(self._ledger, request.remembered, self._signer):
            self.note_halted(reason)
        self._require_whole_ledger()
        return Recalled(request.run_id, self._head(), self._audit_log.length, self._audit_log.head)

    def _admit(self, run_id: str, signed: SignedJob, asked: Opened) -> bytes:
        run = self._runs.get(run_id)
        if run is not None and run.job_digest != signed.digest:
            raise RefusedError(Refusal.CHANGED_REPLAY, f"{run_id} is admitted with another job")
        if run is not None and (stored := self._stored(run, ADMISSION, asked)) is not None:
            return stored.envelope
        run = self._admissions.admit(run_id, signed, self._rules)
        return self._say_once(run, ADMISSION, asked, self._admission(run))

    def _admission(self, run: AdmittedRun) -> Admission:
        schema = self._dataset(run.job).schema
        return admission_of(run, schema, site=self._signer.name, ledger_head=self._head())

    def _unmask(self, run: AdmittedRun, missing: str, asked: Opened) -> bytes:
        """Masks shared with silent sites: of one set of them, and once the own table is paid."""
        silent = checked_missing(missing, run.job.plan.synthesis, site=self._signer.name)
        if (stored := self._stored(run, UNMASKED, asked)) is not None:
            return stored.envelope
        if self._masks is None or TABLES not in self._ledger.steps(run.run_id):
            raise RefusedError(Refusal.OUT_OF_ORDER, "no table was masked yet")
        masks = unmasked(run, self._masks, silent)
        reply = Unmasked(run.run_id, run.job_digest, self._head(), masks)
        return self._say_once(run, UNMASKED, asked, reply)

    def _settle(self, run: AdmittedRun, asked: Opened) -> bytes:
        if (stored := self._stored(run, RECEIPT, asked)) is not None:
            return stored.envelope
        # From here on no round is answered with anything new, so the coins may be opened.
        self._ledger.settle(run.run_id)
        self._metrics.forget(run.run_id)
        self._log.info("settled", run_id=run.run_id)
        self._record("settled", run.run_id, "the server ended the run")
        receipt = make_receipt(
            run,
            self._ledger,
            budget=self._budget(run.job),
            network_cut_off=self._network_cut_off,
            ledger_head=self._head(),
            audit_log=self._audit_log,
        )
        return self._say_once(run, RECEIPT, asked, receipt)

    def _record(self, action: str, what: str, reason: str) -> None:
        self._audit_log.record(
            actor="vault" if action == "halted" else "server",
            action=action,
            object=what,
            decision="",
            reason=reason,
            policy_sha256=self.policy_sha256(),
        )

    # ------------------------------------------------------------------ checks

    def _require_whole_ledger(self) -> None:
        if self._ledger.halted is not None:
            raise IntegrityError(f"the ledger is halted: {self._ledger.halted}; {_HALTED_HELP}")

    def _admitted(self, run_id: str, job_digest: str) -> AdmittedRun:
        if (run := self._runs.get(run_id)) is None:
            raise RefusedError(Refusal.NOT_ADMITTED, "the run was never admitted here")
        if run.job_digest != job_digest:
            raise RefusedError(Refusal.CHANGED_REPLAY, f"{run_id} is admitted with another job")
        return run

    def _budget(self, job: Job) -> Guarantee | None:
        return self._admissions.budget(job, self._rules)

    def _dataset(self, job: Job) -> SiteDataset:
        if (dataset := self._datasets.get(job.file.job.dataset)) is None:
            raise RefusedError(Refusal.UNKNOWN_DATASET, "the data set is no longer here")
        return dataset.narrowed(job.file.job.columns)

    def _refuse(self, opened: Opened | None, refusal: Refusal, reason: str, version: int) -> bytes:
        run_id = "" if opened is None else opened.message.run_id
        self._metrics.refused(refusal, None if opened is None else opened.message)
        self._log.warning("refused", run_id=run_id, refusal=refusal.value, reason=reason)
        return seal(Refused(run_id, refusal), self._signer, version=version)
