"""One run, from admission to the statement. Everything it knows is in the run's directory.

What must stay true: it can be killed at any line and started again. A round that was not
checkpointed is asked again with the same bytes, so a site that has already answered answers with
the same bytes, unpaid. An update is aggregated only if it answers this run, this round and this job
and is no longer than clipping and noise can make it. However a run ends, every site that was asked
to hold budget for it is told that it may let go.
"""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import structlog

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.errors import InputError
from sordino_protocols.feature_statistics import make_scaling
from sordino_protocols.job import Job
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluate,
    Evaluation,
    Inquire,
    Measure,
    Receipt,
    RoundPlan,
    Settle,
    Statistics,
    Update,
    Vector,
)
from sordino_protocols.models import initial_weights
from sordino_protocols.optimizer import SgldOptimizer
from sordino_protocols.plan import StatisticsPlan, TrainingPlan
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunEvent, RunState
from sordino_server.acceptance import (
    accept_admission,
    accept_evaluation,
    accept_receipt,
    accept_statistics,
    accept_update,
)
from sordino_server.admitted import Admitted, read_admitted
from sordino_server.aggregation import aggregate, clipping_norm_at, sum_updates
from sordino_server.brought_model import check_fit
from sordino_server.certificate import issue
from sordino_server.evaluating import evaluation_facts
from sordino_server.heads import HeadStore
from sordino_server.inquiry import inquire
from sordino_server.langevin import check_temperature
from sordino_server.optimizers import ServerState, advance, initial_state, released_weights
from sordino_server.plausibility import check_same_columns
from sordino_server.questions import Questions, RunFailedError, silences
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
from sordino_server.strategy import Outcome, Strategy
from sordino_server.synthesizing import synthesize
from sordino_server.synthetic_source import check_source, find_source
from sordino_server.table_facts import Counts, SynthesisFacts, count_facts
from sordino_server.tabulating import collect, describe

MOST_ATTEMPTS = 5
"""How often a run is started that gets no further; after that it is only wound up."""

_CONFIDENCE = 0.95
_CONNECT_SECONDS = 60.0


class Coordinator:
    """Drives one run through `rounds.RUN_TRANSITIONS`."""

    def __init__(self, run: RunDirectory, strategy: Strategy, heads: HeadStore) -> None:
        self._run = run
        self._strategy = strategy
        self._questions = Questions(run, strategy, heads)
        self._signed = run.manifest().job
        self._job = run.job()
        self._plan = self._job.plan
        self._log = structlog.get_logger(component="server", run_id=run.run_id)

    def execute(self) -> None:
        """Bring the run to its end, from wherever it is.

        Raises:
            RunFailedError: it cannot be finished; the run's log says why.
        """
        with self._run.locked():
            try:
                self._go_on()
            except (RunFailedError, InputError) as error:
                # First the sites: once the run is over, nobody comes back to it.
                unsettled = self._questions.release_holds(self._cohort())
                self._run.advance(RunEvent.GAVE_UP, reason=str(error), unsettled=unsettled)
                raise RunFailedError(str(error)) from error

    def _go_on(self) -> None:
        if self._run.attempts_in_vain() > MOST_ATTEMPTS:
            raise RunFailedError("the server app failed again and again: see the server's log")
        is_free = self._signed.purpose in {"price", "mock"}
        while (state := self._run.state()) not in TERMINAL_RUN_STATES:
            if is_free:
                self._go_on_for_free(state)
            else:
                self._go_on_with_work(state)

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
                self._rounds(self._plan.require_training())
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
                f"{len(wanted)} of the job's sites are enrolled; it needs a quorum of {quorum}"
            )
        patience = min(_CONNECT_SECONDS, self._job.file.cohort.deadline_seconds)
        deadline = time.monotonic() + patience
        while len(connected := set(self._strategy.connected()) & set(wanted)) < quorum:
            if time.monotonic() > deadline:
                raise RunFailedError(
                    f"{len(connected)} sites are connected; the job needs a quorum of {quorum}"
                )
            time.sleep(0.1)
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
        if file.synthetic is not None and not (self._run.path / MODEL).exists():
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

    def _rounds(self, plan: TrainingPlan) -> None:
        admitted = read_admitted(self._run)
        state = self._run.checkpoint() or self._initial(plan, admitted)
        with ThreadPoolExecutor(1) as accountant:
            while state.rounds_done < plan.rounds:
                number = state.rounds_done + 1
                spent = accountant.submit(_epsilon_after, plan, number, self._job)
                started = time.monotonic()
                before = state
                state, outcome = self._round(plan, number, before, admitted)
                # Before the checkpoint: after a crash in between the round is asked, and logged,
                # again, and the later entry holds.
                self._run.record(
                    "round",
                    round=number,
                    rounds=plan.rounds,
                    participants=sorted(outcome.answers),
                    rejections={site: each.value for site, each in outcome.rejections.items()},
                    refusals={site: each.value for site, each in outcome.refusals.items()},
                    update_norm=float(np.linalg.norm(state.weights - before.weights)),
                    epsilon_spent=spent.result(),
                    seconds=round(time.monotonic() - started, 4),
                )
                self._run.save_checkpoint(state)
        released = released_weights(state, plan)
        self._run.save_model(released, job_digest=self._signed.digest)
        self._run.advance(RunEvent.TRAINED)

    def _round(
        self, plan: TrainingPlan, number: int, state: ServerState, admitted: Admitted
    ) -> tuple[ServerState, Outcome[Update]]:
        run_id, digest = self._run.run_id, self._signed.digest
        weights = state.weights.astype(np.float32)
        request = RoundPlan(run_id, digest, number, weights, self._scaling())
        clipping_norm = clipping_norm_at(state.weights, plan)

        check = accept_update(
            digest,
            self._plan,
            admitted,
            number=number,
            dimension=len(state.weights),
            clipping_norm=clipping_norm,
        )
        outcome = self._questions.ask(admitted.sites, request, Update, check=check)
        if plan.lanes:
            readings = {
                site: _lane_readings(each.vector, plan, clipping_norm)
                for site, each in outcome.answers.items()
            }
            self._run.save_readings(number, readings)
        release = aggregate(
            [each.vector.astype(np.float64) for each in outcome.answers.values()],
            [admitted.units[site] for site in outcome.answers],
            plan,
        )
        optimizer = self._job.file.require_optimizer()
        seed = bytes.fromhex(digest)
        advanced = advance(state, release, plan=plan, optimizer=optimizer, seed=seed)
        return advanced, outcome

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
        issue(self._run, self._strategy.signer, self._strategy.sites)
        # A site whose admission came too late holds budget, and takes no part.
        late = [site for site in self._cohort() if site not in sites]
        others = self._questions.release_holds(late)
        self._run.advance(RunEvent.SETTLED, unsettled=silences(outcome) | others)

    def _initial(self, plan: TrainingPlan, admitted: Admitted) -> ServerState:
        seed = bytes.fromhex(self._signed.digest)
        model = self._job.file.require_model()
        weights = initial_weights(model, admitted.feature_count, seed=seed)
        return initial_state(weights, plan)


def _lane_readings(update: Vector, plan: TrainingPlan, clipping_norm: float) -> Vector:
    """[groups, lanes]: as if the round's clipping norm had been the plan's, for the audit."""
    lanes = update[-plan.lane_coordinates :].reshape(plan.lane_groups, plan.lanes)
    return lanes / np.float32(clipping_norm / plan.clipping_norm)


def _epsilon_after(plan: TrainingPlan, number: int, job: Job) -> float:
    return epsilon_by_pld(plan.event_after(number), job.file.guarantee.delta)
