"""A federation killed at every transition of a run and its rounds: nothing lost, nothing twice."""

import pytest
from crashes import crash_series
from pydantic import BaseModel

pytestmark = pytest.mark.system

STATES = {"queued", "admitting", "measuring", "training", "evaluating", "settling"}
STEPS = {
    "a": ["evaluation", "round-1", "round-2", "statistics"],
    "b": ["evaluation", "round-1", "round-2", "statistics"],
    "c": ["evaluation", "round-1", "statistics"],
}
"""What each site is to pay for: the third is silent in round 2."""


class Crash(BaseModel):
    """One crash, and what there was in the end."""

    step: int
    lived: bool
    killed_in: str
    state: str
    rounds: list[int]
    paid: dict[str, list[str]]
    epsilons: list[float]
    different_answers: int
    reason: str | None


RIGHT = ("right-transitions-1", "right-everything-19")
MISSED = "missed-transitions-5"
FORGETFUL = "forgetful-transitions-8"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Crash]]:
    """All crashes, by what was run."""
    directory, names = tmp_path_factory.mktemp("crashes"), (*RIGHT, MISSED, FORGETFUL)
    return crash_series("crashing_server.py", directory, names, Crash, seconds=1800)


def broken_promises(crash: Crash, undisturbed: Crash) -> list[str]:
    """What of the promise this crash disproves: all must be as if it had not been."""
    found = []
    if crash.state != undisturbed.state or crash.reason != undisturbed.reason:
        found.append("the run ended in another way")
    if crash.rounds != undisturbed.rounds:
        found.append("a round was lost")
    if crash.paid != undisturbed.paid:
        found.append("a step was paid twice, or not at all")
    if crash.epsilons != undisturbed.epsilons:
        found.append("the run cost something else")
    if crash.different_answers:
        found.append("the same question got two answers")
    return found


@pytest.mark.parametrize("name", RIGHT)
def test_a_run_survives_a_crash_of_everything(series: dict[str, list[Crash]], name: str) -> None:
    *crashes, undisturbed = series[name]
    assert undisturbed.lived
    assert (undisturbed.state, undisturbed.rounds, undisturbed.paid) == ("done", [1, 2], STEPS)
    assert not any(crash.lived for crash in crashes)
    problems = {crash.step: broken_promises(crash, undisturbed) for crash in crashes}
    assert not any(problems.values()), problems
    assert {crash.killed_in for crash in crashes} == STATES


def test_a_round_that_was_missed_fails_the_run_in_the_same_way_after_a_crash(
    series: dict[str, list[Crash]],
) -> None:
    *crashes, undisturbed = series[MISSED]
    assert undisturbed.state == "failed"
    assert undisturbed.reason is not None
    assert "2 of 3 sites answered RoundPlan" in undisturbed.reason
    problems = {crash.step: broken_promises(crash, undisturbed) for crash in crashes}
    assert not any(problems.values()), problems


def test_a_server_that_forgets_how_it_began_is_found_out(series: dict[str, list[Crash]]) -> None:
    *crashes, undisturbed = series[FORGETFUL]
    problems = [problem for crash in crashes for problem in broken_promises(crash, undisturbed)]
    assert "the run ended in another way" in problems
