"""The rounds of a run that trains: ask, aggregate, step, checkpoint, and on to the next.

What must stay true: a round that was not checkpointed is asked again with the same bytes, so a site
that has already answered answers with the same bytes, unpaid; and the next state is a function of
the checkpoint and of what counts, so that a run that was interrupted ends as one that was not.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import structlog
from structlog.contextvars import bound_contextvars

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.job import Job
from sordino_protocols.logs import seconds_since
from sordino_protocols.messages import RoundPlan, Update, Vector
from sordino_protocols.models import initial_weights
from sordino_protocols.plan import TrainingPlan
from sordino_server.acceptance import accept_update
from sordino_server.admitted import Admitted, read_admitted
from sordino_server.aggregation import aggregate, clipping_norm_at
from sordino_server.answers import Outcome
from sordino_server.optimizers import ServerState, advance, initial_state, released_weights
from sordino_server.questions import Questions
from sordino_server.runs import RunDirectory


class TrainingRounds:
    """The rounds of one run."""

    def __init__(self, run: RunDirectory, questions: Questions) -> None:
        self._run = run
        self._questions = questions
        self._job = run.job()
        self._digest = run.manifest().job.digest
        self._plan = self._job.plan.require_training()
        self._log = structlog.get_logger(component="server", run_id=run.run_id)

    def go_on(self) -> None:
        """Train from the last checkpoint to the end; the released model is on disk afterwards.

        Raises:
            RunFailedError: a round did not get its quorum.
        """
        plan, admitted = self._plan, read_admitted(self._run)
        state = self._run.checkpoint() or self._initial(admitted)
        with ThreadPoolExecutor(1) as accountant:
            while state.rounds_done < plan.rounds:
                number = state.rounds_done + 1
                spent = accountant.submit(_epsilon_after, plan, number, self._job)
                with bound_contextvars(round=number):
                    state = self._next(number, state, admitted, spent)
        self._run.save_model(released_weights(state, plan), job_digest=self._digest)

    def _next(
        self, number: int, before: ServerState, admitted: Admitted, spent: Future[float]
    ) -> ServerState:
        """Have a round made, on record and checkpointed; returns the state after it."""
        started = time.monotonic()
        state, outcome = self._round(number, before, admitted)
        # Before the checkpoint: after a crash in between the round is asked, and logged, again, and
        # the later entry holds.
        self._run.record(
            "round",
            round=number,
            rounds=self._plan.rounds,
            participants=sorted(outcome.answers),
            rejections={site: each.value for site, each in outcome.rejections.items()},
            refusals={site: each.value for site, each in outcome.refusals.items()},
            duplicates=dict(outcome.duplicates),
            update_norm=float(np.linalg.norm(state.weights - before.weights)),
            epsilon_spent=spent.result(),
            seconds=round(time.monotonic() - started, 4),
        )
        self._run.save_checkpoint(state)
        self._log.info("round_ended", sites=sorted(outcome.answers), dur_s=seconds_since(started))
        return state

    def _initial(self, admitted: Admitted) -> ServerState:
        model = self._job.file.require_model()
        seed = bytes.fromhex(self._digest)
        weights = initial_weights(model, admitted.feature_count, seed=seed)
        return initial_state(weights, self._plan)

    def _round(
        self, number: int, state: ServerState, admitted: Admitted
    ) -> tuple[ServerState, Outcome[Update]]:
        plan, digest, file = self._plan, self._digest, self._job.file
        weights = state.weights.astype(np.float32)
        request = RoundPlan(self._run.run_id, digest, number, weights, self._scaling())
        clipping_norm = clipping_norm_at(state.weights, plan)
        check = accept_update(
            digest,
            self._job.plan,
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
            rule=file.cohort.aggregation,
        )
        optimizer, seed = file.require_optimizer(), bytes.fromhex(digest)
        advanced = advance(state, release, plan=plan, optimizer=optimizer, seed=seed)
        return advanced, outcome

    def _scaling(self) -> Vector:
        scaling = self._run.scaling()
        return np.zeros(0, dtype=np.float32) if scaling is None else scaling.vector()


def _lane_readings(update: Vector, plan: TrainingPlan, clipping_norm: float) -> Vector:
    """[groups, lanes]: as if the round's clipping norm had been the plan's, for the audit."""
    lanes = update[-plan.lane_coordinates :].reshape(plan.lane_groups, plan.lanes)
    return lanes / np.float32(clipping_norm / plan.clipping_norm)


def _epsilon_after(plan: TrainingPlan, number: int, job: Job) -> float:
    return epsilon_by_pld(plan.event_after(number), job.file.guarantee.delta)
