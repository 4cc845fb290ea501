"""One run, from admission to the statement. Everything it knows is in the run's directory.

What must stay true: it can be killed at any line and started again, and begins again by itself
when the server's own disk or store was in trouble. However a run ends, every site that was asked to
hold budget for it is told that it may let go.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
import structlog
from structlog.contextvars import bound_contextvars

from sordino_protocols.errors import InputError
from sordino_protocols.feature_statistics import make_scaling
from sordino_protocols.logs import seconds_since
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluate,
    Evaluation,
    Inquire,
    Measure,
    Receipt,
    Settle,
    Statistics,
    Vector,
)
from sordino_protocols.optimizer import SgldOptimizer
from sordino_protocols.plan import StatisticsPlan
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunEvent, RunState
from sordino_server.acceptance import (
    accept_admission,
    accept_evaluation,
    accept_receipt,
    accept_statistics,
)
from sordino_server.admitted import read_admitted
from sordino_server.aggregation import sum_updates
from sordino_server.brought_model import check_fit
from sordino_server.certificate import issue
from sordino_server.decisions import Decisions
from sordino_server.evaluating import evaluation_facts
from sordino_server.heads import HeadStore
from sordino_server.inquiry import inquire
from sordino_server.langevin import check_temperature
from sordino_server.perseverance import Perseverance
from sordino_server.plausibility import check_same_columns
from sordino_server.questions import FailureCause, Questions, RunFailedError, silences
from sordino_server.runs import (
    ADMISSIONS,
    COUNTS,
    EVALUATION,
    MODEL,
    QUOTES,
    STATEMENT,
    SYNTHESIS,
    RunDirectory,
)
from sordino_server.statement import (
    AdmissionFacts,
    Admissions,
    EvaluationFacts,
    Statement,
    admission_facts,
    receipt_facts,
)
from sordino_server.strategy import Strategy
from sordino_server.synthesizing import synthesize
from sordino_server.synthetic_source import check_source, find_source
from sordino_server.table_facts import Counts, SynthesisFacts, count_facts
from sordino_server.tabulating import collect, describe
from sordino_server.training_rounds import TrainingRounds

MOST_ATTEMPTS = 5
"""How often a run is started that gets no further; after that it is only wound up."""

_CONFIDENCE = 0.95
_CONNECT_SECONDS = 180.0  # after a power cut sites need a minute, and a reboot, to be back


class Coordinator:
    """Drives one run through `rounds.RUN_TRANSITIONS`."""

    def __init__(
        self,
        run: RunDirectory,
        strategy: Strategy,
        heads: HeadStore,
        *,
        sleep: Callable[[float], None] = time.sleep,
        decisions: Decisions | None = None,
    ) -> None:
        """Take a run up.

        Args:
            run: which.
            strategy: asks the sites.
            heads: what is remembered of the sites' ledgers.
            sleep: waits, where nothing else does.
            decisions: see `Questions`.
        """
        self._run = run
        self._sleep = sleep
        self._strategy = strategy
        self._questions = Questions(run, strategy, heads, decisions=decisions)
        self._signed = run.manifest().job
        self._job = run.job()
        self._plan = self._job.plan
        self._log = structlog.get_logger(component="server", run_id=run.run_id)

    def execute(self) -> None:
        """Bring the run to its end, from wherever it is.

        Raises:
            RunFailedError: it cannot be finished; the run's log says why.
        """
        with bound_contextvars(run_id=self._run.run_id), self._run.locked():
            try:
                patience = self._job.file.cohort.deadline_seconds
                waiting = Perseverance(self._run, patience_seconds=patience, sleep=self._sleep)
                waiting.persevere(self._go_on)
            except (RunFailedError, InputError) as error:
                # First the sites: once the run is over, nobody comes back to it.
                unsettled = self._questions.release_holds(self._cohort())
                cause = (
                    error.cause if isinstance(error, RunFailedError) else FailureCause.IMPOSSIBLE
                )
                facts = {"reason": str(error), "cause": cause.value, "unsettled": unsettled}
                self._run.advance(RunEvent.GAVE_UP, **facts)
                raise RunFailedError(str(error), cause=cause) from error

    def _go_on(self) -> None:
        if self._run.attempts_in_vain() > MOST_ATTEMPTS:
            reason = "the server app failed again and again: see the server's log"
            raise RunFailedError(reason, cause=FailureCause.CRASHED)
        is_free = self._signed.purpose in {"price", "mock"}
        while (state := self._run.state()) not in TERMINAL_RUN_STATES:
            started = time.monotonic()
            if is_free:
                self._go_on_for_free(state)
            else:
                self._go_on_with_work(state)
            self._log.info("state_ended", state=state.value, dur_s=seconds_since(started))

    # ------------------------------------------------------------------ a price, or a mock

    def _go_on_for_free(self, state: RunState) -> None:
        match state:
            case RunState.QUEUED:
                self._run.advance(RunEvent.STARTED, cohort=self._wanted())
            case RunState.ADMITTING if self._signed.purpose == "mock":
                describe(self._run, self._questions, self._cohort(), schema_sha256=None)
                self._run.advance(RunEvent.ADMITTED)
            case RunState.ADMITTING:
                request = Inquire(self._run.run_id, self._signed)
                quotes = inquire(self._questions, self._strategy, self._cohort(), request)
                self._run.save(QUOTES, quotes)
                self._run.advance(RunEvent.ADMITTED)
            case RunState.TRAINING:
                self._run.advance(RunEvent.TRAINED)
            case RunState.EVALUATING:
                self._run.advance(RunEvent.EVALUATED)
            case _:
                self._run.advance(RunEvent.SETTLED)

    # ------------------------------------------------------------------ a model, or a table

    def _go_on_with_work(self, state: RunState) -> None:
        match state:
            case RunState.QUEUED:
                self._start()
            case RunState.ADMITTING:
                self._admit()
            case RunState.MEASURING if self._plan.statistics is not None:
                self._measure(self._plan.statistics)
            case RunState.TRAINING:
                self._train()
            case RunState.EVALUATING:
                self._train_on_synthetic()
                self._evaluate()
            case RunState.TABULATING:
                self._tabulate()
            case _:
                self._settle()

    def _start(self) -> None:
        """Wait until a quorum is connected; admission waits for the others, and not for ever."""
        wanted, quorum = self._wanted(), self._job.file.cohort.quorum
        if len(wanted) < quorum:
            raise RunFailedError(
                f"{len(wanted)} of the job's sites are enrolled; it needs a quorum of {quorum}",
                cause=FailureCause.NO_QUORUM,
            )
        patience = min(_CONNECT_SECONDS, self._job.file.cohort.deadline_seconds)
        deadline = time.monotonic() + patience
        while len(connected := set(self._strategy.connected()) & set(wanted)) < quorum:
            if time.monotonic() > deadline:
                raise RunFailedError(
                    f"{len(connected)} sites are connected; the job needs a quorum of {quorum}",
                    cause=FailureCause.NO_QUORUM,
                )
            self._sleep(0.1)
        self._run.advance(RunEvent.STARTED, cohort=wanted)

    def _wanted(self) -> list[str]:
        """The sites that the job names; all that are enrolled if it names none."""
        named = self._job.file.cohort.sites
        return [site for site in self._strategy.enrolled() if not named or site in named]

    def _cohort(self) -> list[str]:
        cohort: list[str] = []
        for event in self._run.events():
            if event.get("state") == RunState.ADMITTING.value and isinstance(event["cohort"], list):
                cohort = [str(site) for site in event["cohort"]]
        return cohort

    def _admit(self) -> None:
        cohort = self._questions.recall(self._cohort())
        request = Admit(self._run.run_id, self._signed)
        check = accept_admission(self._signed.digest, self._plan)
        outcome = self._questions.ask(cohort, request, Admission, check=check)
        check_same_columns(outcome.answers)
        self._check_synthetic(outcome.answers)
        admissions = {site: admission_facts(each) for site, each in outcome.answers.items()}
        self._check_possible(admissions)
        self._run.save(ADMISSIONS, Admissions(sites=admissions))
        self._run.save_sealed("admissions", outcome.envelopes)
        refused = {site: refusal.value for site, refusal in outcome.refusals.items()}
        self._run.advance(self._after_admission(), sites=sorted(admissions), refused=refused)

    def _after_admission(self) -> RunEvent:
        if self._plan.tabulation is not None:
            return RunEvent.ADMITTED_TO_TABULATE
        if self._plan.training is None:
            return RunEvent.ADMITTED_TO_EVALUATE
        return RunEvent.ADMITTED if self._plan.statistics is None else RunEvent.ADMITTED_TO_MEASURE

    def _check_possible(self, admissions: Mapping[str, AdmissionFacts]) -> None:
        """Refuse what cannot be done with these sites, before anything is paid."""
        file, training = self._job.file, self._plan.training
        if training is not None and isinstance(file.optimizer, SgldOptimizer):
            units = [facts.order_of_magnitude for facts in admissions.values()]
            check_temperature(file.optimizer, training, units=units, quorum=file.cohort.quorum)
        if file.validation is not None:
            features, model = next(iter(admissions.values())).feature_count, file.require_model()
            check_fit(self._run.model(), self._run.scaling(), model, features=features)

    def _check_synthetic(self, admissions: Mapping[str, Admission]) -> None:
        """Of a job that trains on synthetic records: refuse records of other columns."""
        if self._job.file.synthetic is not None:
            digest = next(iter(admissions.values())).feature_digest
            check_source(self._source(), self._job.file, feature_digest=digest)

    def _source(self) -> RunDirectory:
        return find_source(self._run.siblings(), self._job.file, submitter=self._signed.submitter)

    def _train_on_synthetic(self) -> None:
        """Make the model of a job that needs no site for it, unless an earlier attempt has."""
        file, digest = self._job.file, self._signed.digest
        if file.synthetic is not None and not self._run.has(MODEL):
            # Brings torch, which no other run needs.
            from sordino_server.synthetic_rows import train_on_source  # noqa: PLC0415

            weights = train_on_source(self._source(), file, job_digest=digest)
            self._run.save_model(weights, job_digest=digest)
            self._run.record("trained_on_synthetic", source=file.synthetic.run)

    def _measure(self, plan: StatisticsPlan) -> None:
        """Learn how to scale the features."""
        admitted = read_admitted(self._run)
        request = Measure(self._run.run_id, self._signed.digest)
        check = accept_statistics(self._signed.digest, plan, admitted)
        outcome = self._questions.ask(admitted.sites, request, Statistics, check=check)
        totals = sum_updates([each.vector.astype(np.float64) for each in outcome.answers.values()])
        sites = len(outcome.answers)
        scaling = make_scaling(plan, totals, sites=sites, measured=admitted.measured)
        # Before the state: after a crash in between the sites send the same bytes again.
        self._run.save_scaling(scaling)
        self._run.advance(RunEvent.MEASURED, sites=sorted(outcome.answers))

    def _scaling(self) -> Vector:
        scaling = self._run.scaling()
        return np.zeros(0, dtype=np.float32) if scaling is None else scaling.vector()

    def _train(self) -> None:
        TrainingRounds(self._run, self._questions).go_on()
        self._run.advance(RunEvent.TRAINED)

    def _evaluate(self) -> None:
        admitted, plan = read_admitted(self._run), self._plan.require_evaluation()
        extra = np.zeros(self._plan.extra_coordinates)
        weights = np.concatenate([self._run.model(), extra]).astype(np.float32)
        request = Evaluate(self._run.run_id, self._signed.digest, weights, self._scaling())

        check = accept_evaluation(self._signed.digest, self._plan, admitted)
        outcome = self._questions.ask(admitted.sites, request, Evaluation, check=check)
        tables = {site: each.histogram.astype(np.float64) for site, each in outcome.answers.items()}
        facts = evaluation_facts(
            plan, tables, label_scale=admitted.label_scale, confidence=_CONFIDENCE
        )
        self._run.save(EVALUATION, facts)
        self._run.advance(RunEvent.EVALUATED)

    def _tabulate(self) -> None:
        """Have the sites release their one table, and make of it what the job is about."""
        admitted, plan = read_admitted(self._run), self._plan
        if plan.count is not None:
            tables = collect(self._run, self._questions, plan.count, admitted)
            counts = count_facts(plan.count, tables.numbers, confidence=_CONFIDENCE)
            self._run.save(COUNTS, counts)
        else:
            synthesis = plan.require_synthesis()
            described = describe(
                self._run, self._questions, admitted.sites, schema_sha256=synthesis.schema_sha256
            )
            tables = collect(self._run, self._questions, synthesis, admitted)
            # All of them describe the same table: the job says which.
            declared = next(iter(described.sites.values()))
            synthesize(self._run, self._job, declared, tables)
        self._run.advance(
            RunEvent.TABULATED, sites=list(tables.sites), missing=list(tables.missing)
        )

    def _settle(self) -> None:
        request = Settle(self._run.run_id, self._signed.digest)
        sites = read_admitted(self._run).sites

        check = accept_receipt(self._signed.digest)
        outcome = self._questions.ask(sites, request, Receipt, check=check)
        self._run.save_sealed("receipts", outcome.envelopes)
        statement = Statement(
            run_id=self._run.run_id,
            job=self._job,
            job_digest=self._signed.digest,
            submitter=self._signed.submitter,
            evaluation=self._run.read_if_there(EVALUATION, EvaluationFacts),
            synthesis=self._run.read_if_there(SYNTHESIS, SynthesisFacts),
            counts=self._run.read_if_there(COUNTS, Counts),
            admissions=self._run.read(ADMISSIONS, Admissions).sites,
            receipts={site: receipt_facts(each) for site, each in outcome.answers.items()},
        )
        self._run.save(STATEMENT, statement)
        issue(self._run, self._strategy.signer, self._strategy.sites.with_revoked())
        # A site whose admission came too late holds budget, and takes no part.
        late = [site for site in self._cohort() if site not in sites]
        others = self._questions.release_holds(late)
        self._run.advance(RunEvent.SETTLED, unsettled=silences(outcome) | others)
