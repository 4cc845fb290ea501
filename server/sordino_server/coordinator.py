"""One run, from admission to the statement. Everything it knows is in the run's directory.

What must stay true: it can be killed at any line and started again. A round that was not
checkpointed is asked again with the same bytes, so a site that has already answered answers with
the same bytes, unpaid. An update is aggregated only if it answers this run, this round and this job
and is no longer than clipping and noise can make it.
"""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
import structlog

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.errors import ExitCode, IntegrityError, PeerError, SordinoError
from sordino_protocols.job import Job
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluate,
    Evaluation,
    Inquire,
    Quote,
    Receipt,
    Reply,
    Request,
    RoundPlan,
    Settle,
    Update,
)
from sordino_protocols.models import initial_weights
from sordino_protocols.privacy import PoissonGaussian
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunEvent, RunState
from sordino_protocols.scorecard import Scorecard, scorecard
from sordino_server.aggregation import (
    ServerState,
    advance,
    check_update,
    initial_state,
    released_weights,
    sum_updates,
)
from sordino_server.runs import ADMISSIONS, EVALUATION, QUOTES, STATEMENT, RunDirectory
from sordino_server.strategy import (
    ImplausibleError,
    Outcome,
    Patience,
    Rejection,
    Strategy,
)

_CONFIDENCE = 0.95
_CONNECT_SECONDS = 60.0
_QUOTE_SECONDS = 30.0

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
        try:
            if self._run.manifest().purpose == "price":
                self._inquire()
            else:
                self._train()
        except RunFailedError as error:
            self._run.advance(RunEvent.GAVE_UP, reason=str(error))
            self._settle_quietly()
            raise

    # ------------------------------------------------------------------ a price

    def _inquire(self) -> None:
        self._start()
        patience = Patience(len(self._cohort()), _QUOTE_SECONDS, _QUOTE_SECONDS)
        request = Inquire(self._run.run_id, self._signed)
        outcome = self._strategy.ask(self._cohort(), request, Quote, patience)
        quotes = {
            site: {
                "refusal": quote.refusal and quote.refusal.value,
                "rule": quote.rule,
                "epsilon_pld": quote.epsilon_pld,
                "epsilon_rdp": quote.epsilon_rdp,
                "budget_left": quote.budget_left,
            }
            for site, quote in outcome.answers.items()
        }
        silent = {site: each.value for site, each in outcome.rejections.items()}
        refused = {site: each.value for site, each in outcome.refusals.items()}
        self._run.save_json(QUOTES, {"quotes": quotes, "refused": refused, "silent": silent})
        for event in (
            RunEvent.ADMITTED,
            RunEvent.TRAINED,
            RunEvent.EVALUATED,
            RunEvent.SETTLED,
        ):
            self._run.advance(event)

    # ------------------------------------------------------------------ a training run

    def _train(self) -> None:
        while (state := self._run.state()) not in TERMINAL_RUN_STATES:
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
        """Wait until enough sites are connected."""
        wanted = self._job.file.cohort
        deadline = time.monotonic() + min(_CONNECT_SECONDS, wanted.deadline_seconds)
        while len(cohort := self._connected()) < max(wanted.quorum, len(wanted.sites)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if len(cohort) < wanted.quorum:
            self._run.advance(RunEvent.STARTED, cohort=cohort)
            raise RunFailedError(
                f"{len(cohort)} sites are connected; the job needs a quorum of {wanted.quorum}"
            )
        self._run.advance(RunEvent.STARTED, cohort=cohort)

    def _connected(self) -> list[str]:
        wanted = self._job.file.cohort.sites
        return [site for site in self._strategy.connected() if not wanted or site in wanted]

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
            if reply.order_of_magnitude < 1:
                raise ImplausibleError(Rejection.IMPLAUSIBLE, "declares no units")

        outcome = self._ask(self._cohort(), request, Admission, check=check)
        shapes = {(each.feature_count, each.feature_digest) for each in outcome.answers.values()}
        if len(shapes) != 1:
            raise RunFailedError("the sites declare different columns for this data set")
        admissions = {
            site: {
                "order_of_magnitude": each.order_of_magnitude,
                "feature_count": each.feature_count,
                "coins_commitment": each.coins_commitment,
                "ledger_head": each.ledger_head,
            }
            for site, each in outcome.answers.items()
        }
        self._run.save_json(ADMISSIONS, admissions)
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
                self._run.save_checkpoint(state)
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
            try:
                check_update(
                    reply.vector.astype(np.float64),
                    plan,
                    dimension=len(state.weights),
                    expected_batch_size=plan.sampling_rate * admitted.units[site],
                )
            except PeerError as error:
                raise ImplausibleError(Rejection.IMPLAUSIBLE, str(error)) from None

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

        def check(_site: str, reply: Evaluation) -> None:
            if reply.job_digest != self._signed.digest or reply.histogram.shape != (2 * bins,):
                raise ImplausibleError(Rejection.BAD_SHAPE, "not the histogram of this job")

        outcome = self._ask(sorted(admitted.units), request, Evaluation, check=check)
        histograms = [each.histogram.astype(np.float64) for each in outcome.answers.values()]
        whole = sum_updates(histograms).reshape(2, bins)
        noise_std = self._plan.evaluation.noise_multiplier * len(histograms) ** 0.5
        card = scorecard(whole, noise_std=noise_std, confidence=_CONFIDENCE)
        content = _scorecard_json(card) | {
            "histogram": whole.tolist(),
            "noise_std": noise_std,
            "sites": sorted(outcome.answers),
        }
        self._run.save_json(EVALUATION, content)
        self._run.advance(RunEvent.EVALUATED)

    def _settle(self) -> None:
        request = Settle(self._run.run_id, self._signed.digest)
        sites = sorted(Admitted.read(self._run).units)
        outcome = self._ask(sites, request, Receipt)
        statement = {
            "run_id": self._run.run_id,
            "job": json.loads(self._signed.body),
            "job_digest": self._signed.digest,
            "submitter": self._signed.submitter,
            "evaluation": self._run.read_json(EVALUATION),
            "admissions": self._run.read_json(ADMISSIONS),
            "receipts": {site: asdict(each) for site, each in outcome.answers.items()},
        }
        self._run.save_json(STATEMENT, statement)
        self._run.advance(RunEvent.SETTLED)

    def _settle_quietly(self) -> None:
        """Tell the sites that a failed run is over, so that what it held is free again."""
        request = Settle(self._run.run_id, self._signed.digest)
        cohort = self._cohort()
        if self._run.manifest().purpose == "train" and cohort:
            self._strategy.ask(cohort, request, Receipt, Patience(len(cohort), 10.0, 10.0))

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
            said = {site: each.value for site, each in outcome.refusals.items()}
            said |= {site: each.value for site, each in outcome.rejections.items()}
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
        units: dict[str, int] = {}
        feature_count = 0
        for site, facts in run.read_json(ADMISSIONS).items():
            if not isinstance(facts, dict):
                raise IntegrityError(f"{run.path}: {ADMISSIONS} cannot be read")
            units[site] = int(facts["order_of_magnitude"])
            feature_count = int(facts["feature_count"])
        return cls(units, feature_count)


def _epsilon_after(job: Job, number: int) -> float:
    plan = job.plan.training
    event = PoissonGaussian(plan.sampling_rate, plan.noise_multiplier, plan.local_steps * number)
    return epsilon_by_pld(event, job.file.guarantee.delta)


def _scorecard_json(card: Scorecard) -> dict[str, object]:
    return {
        "accuracy": card.accuracy.value,
        "accuracy_interval": [card.accuracy.lower, card.accuracy.upper],
        "auc": card.auc.value,
        "auc_interval": [card.auc.lower, card.auc.upper],
        "confidence": card.confidence,
    }
