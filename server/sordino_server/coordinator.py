"""One run, from admission to the statement. Everything it knows is in the run's directory.

What must stay true: it can be killed at any line and started again. A round that was not
checkpointed is asked again with the same bytes, so a site that has already answered answers with
the same bytes, unpaid. An update is aggregated only if it answers this run, this round and this job
and is no longer than clipping and noise can make it. However a run ends, every site that was asked
to hold budget for it is told that it may let go.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.errors import ExitCode, InputError, PeerError, SordinoError
from sordino_protocols.job import Job
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluate,
    Evaluation,
    Inquire,
    Receipt,
    Refusal,
    Reply,
    Request,
    RoundPlan,
    Settle,
    Update,
)
from sordino_protocols.models import initial_weights
from sordino_protocols.privacy import PoissonGaussian
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunEvent, RunState
from sordino_protocols.scorecard import scorecard
from sordino_server.aggregation import (
    ServerState,
    advance,
    check_update,
    initial_state,
    released_weights,
    sum_updates,
)
from sordino_server.inquiry import inquire
from sordino_server.plausibility import check_admission, check_histogram, check_same_columns
from sordino_server.runs import ADMISSIONS, EVALUATION, QUOTES, STATEMENT, RunDirectory
from sordino_server.statement import (
    AdmissionFacts,
    Admissions,
    EvaluationFacts,
    Statement,
    evaluation_facts,
    receipt_facts,
)
from sordino_server.strategy import (
    ImplausibleError,
    Outcome,
    Patience,
    Rejection,
    Strategy,
)

MOST_ATTEMPTS = 5
"""How often a run is started that gets no further; after that it is only wound up."""

_CONFIDENCE = 0.95
_CONNECT_SECONDS = 60.0
_WINDING_UP_PATIENCE = Patience(quorum=1, deadline_seconds=10.0, grace_seconds=10.0)

R = TypeVar("R", bound=Reply)


class RunFailedError(SordinoError):
    """The run cannot go on. The text says why, in words for the data scientist."""

    exit_code = ExitCode.REFUSED


class Coordinator:
    """Drives one run through `rounds.RUN_TRANSITIONS`."""

    def __init__(self, run: RunDirectory, strategy: Strategy) -> None:
        self._run = run
        self._strategy = strategy
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
                unsettled = self._release_holds(self._cohort())
                self._run.advance(RunEvent.GAVE_UP, reason=str(error), unsettled=unsettled)
                raise RunFailedError(str(error)) from error

    def _go_on(self) -> None:
        if self._run.attempts_in_vain() > MOST_ATTEMPTS:
            raise RunFailedError("the server app failed again and again: see the server's log")
        is_price = self._run.manifest().purpose == "price"
        while (state := self._run.state()) not in TERMINAL_RUN_STATES:
            if is_price:
                self._go_on_with_price(state)
            else:
                self._go_on_with_training(state)

    # ------------------------------------------------------------------ a price

    def _go_on_with_price(self, state: RunState) -> None:
        match state:
            case RunState.QUEUED:
                self._run.advance(RunEvent.STARTED, cohort=self._wanted())
            case RunState.ADMITTING:
                request = Inquire(self._run.run_id, self._signed)
                self._run.save(QUOTES, inquire(self._strategy, self._cohort(), request))
                self._run.advance(RunEvent.ADMITTED)
            case RunState.TRAINING:
                self._run.advance(RunEvent.TRAINED)
            case RunState.EVALUATING:
                self._run.advance(RunEvent.EVALUATED)
            case _:
                self._run.advance(RunEvent.SETTLED)

    # ------------------------------------------------------------------ a training run

    def _go_on_with_training(self, state: RunState) -> None:
        match state:
            case RunState.QUEUED:
                self._start()
            case RunState.ADMITTING:
                self._admit()
            case RunState.TRAINING:
                self._rounds()
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
        request = Admit(self._run.run_id, self._signed)

        def check(_site: str, reply: Admission) -> None:
            if reply.job_digest != self._signed.digest:
                raise ImplausibleError(Rejection.MALFORMED, "admitted another job")
            _believe(lambda: check_admission(reply), Rejection.IMPLAUSIBLE)

        outcome = self._ask(self._cohort(), request, Admission, check=check)
        check_same_columns(outcome.answers)
        admissions = {
            site: AdmissionFacts(
                order_of_magnitude=each.order_of_magnitude,
                feature_count=each.feature_count,
                coins_commitment=each.coins_commitment,
                ledger_head=each.ledger_head,
            )
            for site, each in outcome.answers.items()
        }
        self._run.save(ADMISSIONS, Admissions(sites=admissions))
        refused = {site: refusal.value for site, refusal in outcome.refusals.items()}
        self._run.advance(RunEvent.ADMITTED, sites=sorted(admissions), refused=refused)

    def _rounds(self) -> None:
        admitted = Admitted.read(self._run)
        state = self._run.checkpoint() or self._initial(admitted)
        with ThreadPoolExecutor(1) as accountant:
            while state.rounds_done < self._plan.training.rounds:
                number = state.rounds_done + 1
                spent = accountant.submit(_epsilon_after, self._job, number)
                started = time.monotonic()
                state, outcome = self._round(number, state, admitted)
                # Before the checkpoint: after a crash in between the round is asked, and logged,
                # again, and the later entry holds.
                self._run.record(
                    "round",
                    round=number,
                    rounds=self._plan.training.rounds,
                    participants=sorted(outcome.answers),
                    rejections={site: each.value for site, each in outcome.rejections.items()},
                    refusals={site: each.value for site, each in outcome.refusals.items()},
                    update_norm=float(np.linalg.norm(state.velocity)),
                    epsilon_spent=spent.result(),
                    seconds=round(time.monotonic() - started, 4),
                )
                self._run.save_checkpoint(state)
        lanes = self._plan.training.lanes
        released = released_weights(state, lanes=lanes)
        self._run.save_model(released, job_digest=self._signed.digest)
        self._run.advance(RunEvent.TRAINED)

    def _round(
        self, number: int, state: ServerState, admitted: "Admitted"
    ) -> tuple[ServerState, Outcome[Update]]:
        plan = self._plan.training
        run_id, digest = self._run.run_id, self._signed.digest
        request = RoundPlan(run_id, digest, number, state.weights.astype(np.float32))

        def check(site: str, reply: Update) -> None:
            if (reply.job_digest, reply.round) != (digest, number):
                raise ImplausibleError(Rejection.MALFORMED, "an answer for another round")
            if reply.vector.shape != state.weights.shape:
                raise ImplausibleError(Rejection.BAD_SHAPE, "a vector of another length")
            _believe(
                lambda: check_update(
                    reply.vector.astype(np.float64),
                    plan,
                    dimension=len(state.weights),
                    expected_batch_size=plan.sampling_rate * admitted.units[site],
                ),
                Rejection.IMPLAUSIBLE,
            )

        outcome = self._ask(sorted(admitted.units), request, Update, check=check)
        if plan.lanes:
            readings = {site: each.vector[-plan.lanes :] for site, each in outcome.answers.items()}
            self._run.save_readings(number, readings)
        updates = [each.vector.astype(np.float64) for each in outcome.answers.values()]
        units = sum(admitted.units[site] for site in outcome.answers)
        advanced = advance(
            state,
            sum_updates(updates),
            plan=plan,
            # A public constant, summed over those who answered.
            expected_units=plan.sampling_rate * units,
            optimizer=self._job.file.server_optimizer,
        )
        return advanced, outcome

    def _evaluate(self) -> None:
        admitted = Admitted.read(self._run)
        lanes = np.zeros(self._plan.training.lanes)
        weights = np.concatenate([self._run.model(), lanes]).astype(np.float32)
        bins = self._plan.evaluation.bins
        request = Evaluate(self._run.run_id, self._signed.digest, weights)

        def check(site: str, reply: Evaluation) -> None:
            if reply.job_digest != self._signed.digest:
                raise ImplausibleError(Rejection.MALFORMED, "an evaluation for another job")
            if reply.histogram.shape != (2 * bins,):
                raise ImplausibleError(Rejection.BAD_SHAPE, "a histogram of another length")
            histogram, units = reply.histogram.astype(np.float64), admitted.units[site]
            _believe(
                lambda: check_histogram(histogram, self._plan.evaluation, units=units),
                Rejection.IMPLAUSIBLE,
            )

        outcome = self._ask(sorted(admitted.units), request, Evaluation, check=check)
        histograms = [each.histogram.astype(np.float64) for each in outcome.answers.values()]
        whole = sum_updates(histograms).reshape(2, bins)
        noise_std = self._plan.evaluation.noise_multiplier * len(histograms) ** 0.5
        card = scorecard(whole, noise_std=noise_std, confidence=_CONFIDENCE)
        sites = sorted(outcome.answers)
        facts = evaluation_facts(card, whole.tolist(), noise_std=noise_std, sites=sites)
        self._run.save(EVALUATION, facts)
        self._run.advance(RunEvent.EVALUATED)

    def _settle(self) -> None:
        request = Settle(self._run.run_id, self._signed.digest)
        sites = sorted(Admitted.read(self._run).units)

        def check(_site: str, reply: Receipt) -> None:
            if reply.job_digest != self._signed.digest:
                raise ImplausibleError(Rejection.MALFORMED, "a receipt for another job")

        outcome = self._ask(sites, request, Receipt, check=check)
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
        # A site whose admission came too late holds budget, and takes no part.
        others = self._release_holds([site for site in self._cohort() if site not in sites])
        self._run.advance(RunEvent.SETTLED, unsettled=_silences(outcome) | others)

    def _release_holds(self, sites: list[str]) -> dict[str, str]:
        """Tell sites that the run is over for them. Returns who may hold budget still, and why."""
        if not sites or self._run.manifest().purpose == "price":
            return {}
        request = Settle(self._run.run_id, self._signed.digest)
        outcome = self._strategy.ask(sites, request, Receipt, _WINDING_UP_PATIENCE)
        silences = _silences(outcome)
        return {site: why for site, why in silences.items() if why != Refusal.NOT_ADMITTED}

    def _initial(self, admitted: "Admitted") -> ServerState:
        seed = bytes.fromhex(self._signed.digest)
        weights = initial_weights(self._job.file.model, admitted.feature_count, seed=seed)
        return initial_state(weights, lanes=self._plan.training.lanes)

    def _ask(
        self,
        cohort: list[str],
        request: Request,
        expected: type[R],
        *,
        check: Callable[[str, R], None] = lambda _site, _reply: None,
    ) -> Outcome[R]:
        """Ask with the job's patience.

        Raises:
            RunFailedError: the quorum did not answer; says what each site did instead.
        """
        wanted = self._job.file.cohort
        patience = Patience(wanted.quorum, wanted.deadline_seconds, wanted.grace_seconds)
        outcome = self._strategy.ask(cohort, request, expected, patience, check=check)
        if not outcome.has_quorum:
            said = _silences(outcome)
            reasons = ", ".join(f"{site}: {why}" for site, why in sorted(said.items()))
            raise RunFailedError(
                f"{len(outcome.answers)} of {len(cohort)} sites answered {type(request).__name__}; "
                f"the job needs {wanted.quorum} ({reasons})"
            )
        return outcome


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the sites of a run declared at admission.

    Attributes:
        units: declared order of magnitude, by site.
        feature_count: the same at every site.
    """

    units: Mapping[str, int]
    feature_count: int

    @classmethod
    def read(cls, run: RunDirectory) -> "Admitted":
        """Read what `_admit` wrote."""
        sites = run.read(ADMISSIONS, Admissions).sites
        units = {site: facts.order_of_magnitude for site, facts in sites.items()}
        return cls(units, next(iter(sites.values())).feature_count)


def _believe(check: Callable[[], None], otherwise: Rejection) -> None:
    try:
        check()
    except PeerError as error:
        raise ImplausibleError(otherwise, str(error)) from None


def _silences(outcome: Outcome[R]) -> dict[str, str]:
    """What the sites without an answer did instead."""
    refused = {site: each.value for site, each in outcome.refusals.items()}
    return refused | {site: each.value for site, each in outcome.rejections.items()}


def _epsilon_after(job: Job, number: int) -> float:
    plan = job.plan.training
    event = PoissonGaussian(plan.sampling_rate, plan.noise_multiplier, plan.local_steps * number)
    return epsilon_by_pld(event, job.file.guarantee.delta)
