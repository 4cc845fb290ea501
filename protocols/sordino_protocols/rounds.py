"""The life of a run and of a round as transition tables: no I/O, nothing implicit.

What must stay true: a state changes only through `advance_run` and `advance_round`, every pair that
is not in a table is a bug, and a terminal state stays.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class RunState(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    ADMITTING = "admitting"
    MEASURING = "measuring"
    TRAINING = "training"
    EVALUATING = "evaluating"
    TABULATING = "tabulating"
    SETTLING = "settling"
    DONE = "done"
    FAILED = "failed"


class RunEvent(StrEnum):
    """What happens to a run."""

    STARTED = "started"
    ADMITTED = "admitted"
    ADMITTED_TO_MEASURE = "admitted_to_measure"
    ADMITTED_TO_EVALUATE = "admitted_to_evaluate"
    ADMITTED_TO_TABULATE = "admitted_to_tabulate"
    MEASURED = "measured"
    ROUND_CLOSED = "round_closed"
    TRAINED = "trained"
    EVALUATED = "evaluated"
    TABULATED = "tabulated"
    SETTLED = "settled"
    GAVE_UP = "gave_up"


RUN_TRANSITIONS: Mapping[tuple[RunState, RunEvent], RunState] = MappingProxyType(
    {
        (RunState.QUEUED, RunEvent.STARTED): RunState.ADMITTING,
        (RunState.QUEUED, RunEvent.GAVE_UP): RunState.FAILED,
        (RunState.ADMITTING, RunEvent.ADMITTED): RunState.TRAINING,
        (RunState.ADMITTING, RunEvent.ADMITTED_TO_MEASURE): RunState.MEASURING,
        (RunState.ADMITTING, RunEvent.ADMITTED_TO_EVALUATE): RunState.EVALUATING,
        (RunState.ADMITTING, RunEvent.ADMITTED_TO_TABULATE): RunState.TABULATING,
        (RunState.ADMITTING, RunEvent.GAVE_UP): RunState.FAILED,
        (RunState.MEASURING, RunEvent.MEASURED): RunState.TRAINING,
        (RunState.MEASURING, RunEvent.GAVE_UP): RunState.FAILED,
        (RunState.TRAINING, RunEvent.ROUND_CLOSED): RunState.TRAINING,
        (RunState.TRAINING, RunEvent.TRAINED): RunState.EVALUATING,
        (RunState.TRAINING, RunEvent.GAVE_UP): RunState.FAILED,
        (RunState.EVALUATING, RunEvent.EVALUATED): RunState.SETTLING,
        (RunState.EVALUATING, RunEvent.GAVE_UP): RunState.FAILED,
        (RunState.TABULATING, RunEvent.TABULATED): RunState.SETTLING,
        (RunState.TABULATING, RunEvent.GAVE_UP): RunState.FAILED,
        (RunState.SETTLING, RunEvent.SETTLED): RunState.DONE,
        (RunState.SETTLING, RunEvent.GAVE_UP): RunState.FAILED,
    }
)
TERMINAL_RUN_STATES = frozenset({RunState.DONE, RunState.FAILED})


class RoundState(StrEnum):
    """Where a round is."""

    OPEN = "open"
    MET = "met"
    COMPLETE = "complete"
    MISSED = "missed"


class RoundEvent(StrEnum):
    """What happens to a round."""

    QUORUM_REACHED = "quorum_reached"
    ALL_ANSWERED = "all_answered"
    GRACE_OVER = "grace_over"
    DEADLINE_PASSED = "deadline_passed"


ROUND_TRANSITIONS: Mapping[tuple[RoundState, RoundEvent], RoundState] = MappingProxyType(
    {
        (RoundState.OPEN, RoundEvent.QUORUM_REACHED): RoundState.MET,
        (RoundState.OPEN, RoundEvent.DEADLINE_PASSED): RoundState.MISSED,
        (RoundState.MET, RoundEvent.ALL_ANSWERED): RoundState.COMPLETE,
        (RoundState.MET, RoundEvent.GRACE_OVER): RoundState.COMPLETE,
        (RoundState.MET, RoundEvent.DEADLINE_PASSED): RoundState.COMPLETE,
    }
)
CLOSED_ROUND_STATES = frozenset({RoundState.COMPLETE, RoundState.MISSED})


def advance_run(state: RunState, event: RunEvent) -> RunState:
    """The run's next state.

    Raises:
        ValueError: the event cannot happen in this state; a bug of ours.
    """
    try:
        return RUN_TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a run that is {state} cannot have {event}") from None


def advance_round(state: RoundState, event: RoundEvent) -> RoundState:
    """The round's next state.

    Raises:
        ValueError: the event cannot happen in this state; a bug of ours.
    """
    try:
        return ROUND_TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a round that is {state} cannot have {event}") from None


def round_event(
    state: RoundState,
    *,
    answered: int,
    asked: int,
    quorum: int,
    is_grace_over: bool,
    is_deadline_over: bool,
) -> RoundEvent | None:
    """What a waiting round has reached; None while there is nothing but to wait."""
    if state is RoundState.OPEN and answered >= quorum:
        return RoundEvent.QUORUM_REACHED
    if state is RoundState.MET and answered >= asked:
        return RoundEvent.ALL_ANSWERED
    if state is RoundState.MET and is_grace_over:
        return RoundEvent.GRACE_OVER
    if state not in CLOSED_ROUND_STATES and is_deadline_over:
        return RoundEvent.DEADLINE_PASSED
    return None
