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
from sordino_server.runs import ADMISSIONS, EVALUATION, QUOTES, STATEMENT, RunDirectory
from sordino_server.statement import (
    AdmissionFacts,
    Admissions,
    EvaluationFacts,
    Statement,
    admission_facts,
    receipt_facts,
)
from sordino_server.strategy import Outcome, Strategy

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
        is_price = self._signed.purpose == "price"
        while (state := self._run.state()) not in TERMINAL_RUN_STATES:
            if is_price:
                self._go_on_with_price(state)
            else:
                self._go_on_with_work(state)

    # ------------------------------------------------------------------ a price

    def _go_on_with_price(self, state: RunState) -> None:
        match state:
            case RunState.QUEUED:
                self._run.advance(RunEvent.STARTED, cohort=self._wanted())
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

    # ------------------------------------------------------------------ training, or validation

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
                self._evaluate()
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
        admissions = {site: admission_facts(each) for site, each in outcome.answers.items()}
        self._check_possible(admissions)
        self._run.save(ADMISSIONS, Admissions(sites=admissions))
        self._run.save_sealed("admissions", outcome.envelopes)
        refused = {site: refusal.value for site, refusal in outcome.refusals.items()}
        self._run.advance(self._after_admission(), sites=sorted(admissions), refused=refused)

    def _after_admission(self) -> RunEvent:
        if self._plan.training is None:
            return RunEvent.ADMITTED_TO_EVALUATE
        return RunEvent.ADMITTED if self._plan.statistics is None else RunEvent.ADMITTED_TO_MEASURE

    def _check_possible(self, admissions: Mapping[str, AdmissionFacts]) -> None:
        """Refuse what cannot be done with these sites, before anything is paid."""
        file, training = self._job.file, self._plan.training
        if training is not None and isinstance(file.optimizer, SgldOptimizer):
            units = [facts.order_of_magnitude for facts in admissions.values()]
            check_temperature(file.optimizer, training, units=units, quorum=file.cohort.quorum)
        if training is None:
            features = next(iter(admissions.values())).feature_count
            check_fit(self._run.model(), self._run.scaling(), file.model, features=features)

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
        admitted, plan = read_admitted(self._run), self._plan.evaluation
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
            evaluation=self._run.read(EVALUATION, EvaluationFacts),
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
        weights = initial_weights(self._job.file.model, admitted.feature_count, seed=seed)
        return initial_state(weights, plan)


def _lane_readings(update: Vector, plan: TrainingPlan, clipping_norm: float) -> Vector:
    """[groups, lanes]: as if the round's clipping norm had been the plan's, for the audit."""
    lanes = update[-plan.lane_coordinates :].reshape(plan.lane_groups, plan.lanes)
    return lanes / np.float32(clipping_norm / plan.clipping_norm)


def _epsilon_after(plan: TrainingPlan, number: int, job: Job) -> float:
    return epsilon_by_pld(plan.event_after(number), job.file.guarantee.delta)
