import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.rounds import (
    CLOSED_ROUND_STATES,
    ROUND_TRANSITIONS,
    RUN_TRANSITIONS,
    TERMINAL_RUN_STATES,
    RoundEvent,
    RoundState,
    RunEvent,
    RunState,
    advance_round,
    advance_run,
    round_event,
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(RunState, RunEvent)))
def test_a_run_moves_by_the_table_or_not_at_all(state: RunState, event: RunEvent) -> None:
    if (state, event) in RUN_TRANSITIONS:
        assert advance_run(state, event) is RUN_TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=f"{state} cannot have {event}"):
            advance_run(state, event)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(RoundState, RoundEvent)))
def test_a_round_moves_by_the_table_or_not_at_all(state: RoundState, event: RoundEvent) -> None:
    if (state, event) in ROUND_TRANSITIONS:
        assert advance_round(state, event) is ROUND_TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=f"{state} cannot have {event}"):
            advance_round(state, event)


def test_terminal_states_stay_and_all_others_can_be_left() -> None:
    assert {state for state, _ in RUN_TRANSITIONS} == set(RunState) - TERMINAL_RUN_STATES
    assert {state for state, _ in ROUND_TRANSITIONS} == set(RoundState) - CLOSED_ROUND_STATES


def test_every_state_is_reached_and_every_run_can_be_given_up() -> None:
    assert {RunState.QUEUED, *RUN_TRANSITIONS.values()} == set(RunState)
    assert {RoundState.OPEN, *ROUND_TRANSITIONS.values()} == set(RoundState)
    for state in set(RunState) - TERMINAL_RUN_STATES:
        assert advance_run(state, RunEvent.GAVE_UP) is RunState.FAILED


def test_only_a_settled_run_is_done() -> None:
    into_done = [pair for pair, state in RUN_TRANSITIONS.items() if state is RunState.DONE]
    assert into_done == [(RunState.SETTLING, RunEvent.SETTLED)]


def test_the_tables_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        RUN_TRANSITIONS[RunState.DONE, RunEvent.STARTED] = RunState.QUEUED  # type: ignore[index]
    with pytest.raises(TypeError):
        ROUND_TRANSITIONS[RoundState.MISSED, RoundEvent.GRACE_OVER] = (  # type: ignore[index]
            RoundState.OPEN
        )


@given(
    state=st.sampled_from(RoundState),
    answered=st.integers(0, 5),
    asked=st.integers(1, 5),
    quorum=st.integers(1, 5),
    is_grace_over=st.booleans(),
    is_deadline_over=st.booleans(),
)
def test_a_round_reaches_only_what_its_table_allows(
    *,
    state: RoundState,
    answered: int,
    asked: int,
    quorum: int,
    is_grace_over: bool,
    is_deadline_over: bool,
) -> None:
    event = round_event(
        state,
        answered=answered,
        asked=asked,
        quorum=quorum,
        is_grace_over=is_grace_over,
        is_deadline_over=is_deadline_over,
    )
    if event is None:
        assert state in CLOSED_ROUND_STATES or not is_deadline_over
    else:
        assert (state, event) in ROUND_TRANSITIONS
    if event is RoundEvent.QUORUM_REACHED:
        assert answered >= quorum


def play(answers: list[int], *, quorum: int, asked: int, grace_over_at: int) -> list[RoundState]:
    """The states of a round of which `answers[tick]` sites have answered at each tick."""
    state, seen = RoundState.OPEN, [RoundState.OPEN]
    for tick, answered in enumerate(answers):
        while event := round_event(
            state,
            answered=answered,
            asked=asked,
            quorum=quorum,
            is_grace_over=tick >= grace_over_at,
            is_deadline_over=tick == len(answers) - 1,
        ):
            state = advance_round(state, event)
            seen.append(state)
    return seen


def test_a_round_waits_for_the_slow_during_grace_only() -> None:
    full = [RoundState.OPEN, RoundState.MET, RoundState.COMPLETE]
    assert play([0, 1, 2, 3], quorum=2, asked=3, grace_over_at=9) == full
    assert play([0, 2, 2, 2, 2], quorum=2, asked=3, grace_over_at=2) == full
    assert play([2, 2, 2], quorum=2, asked=3, grace_over_at=9) == full
    assert play([1, 1, 1], quorum=2, asked=3, grace_over_at=0) == [
        RoundState.OPEN,
        RoundState.MISSED,
    ]
