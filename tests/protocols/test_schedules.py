import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schedules import CONSTANT, Schedule

schedules = st.builds(
    Schedule,
    decay=st.sampled_from(["linear", "cosine"]),
    warmup=st.floats(0, 0.99),
    final=st.floats(0, 1),
)


def factors(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.factor(step, steps=steps) for step in range(steps)]


def test_without_a_schedule_the_rate_stays() -> None:
    assert factors(CONSTANT, 5) == [1.0] * 5


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(decay="linear"), [1.0, 0.75, 0.5, 0.25]),
        (Schedule(decay="linear", final=0.2), [1.0, 0.8, 0.6, 0.4]),
        (Schedule(decay="cosine"), [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
        (Schedule(warmup=0.5), [1 / 3, 2 / 3, 1.0, 1.0]),
        (Schedule(decay="linear", warmup=0.5), [1 / 3, 2 / 3, 1.0, 0.5]),
    ],
)
def test_a_schedule_by_hand(schedule: Schedule, expected: list[float]) -> None:
    assert factors(schedule, 4) == pytest.approx(expected)


@given(schedules, st.integers(1, 200))
def test_it_rises_then_falls_between_the_final_share_and_one(
    schedule: Schedule, steps: int
) -> None:
    found = factors(schedule, steps)
    top = found.index(max(found))
    assert all(a <= b for a, b in itertools.pairwise(found[: top + 1]))
    assert all(a >= b for a, b in itertools.pairwise(found[top:]))
    assert all(0 < each <= 1 for each in found)
    assert found[-1] >= schedule.final or top == steps - 1


@pytest.mark.parametrize("step", [-1, 3])
def test_there_is_no_step_outside_the_run(step: int) -> None:
    with pytest.raises(ValueError, match=f"step {step} of 3"):
        CONSTANT.factor(step, steps=3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("final = 0.1", "final has no effect without decay"),
        ('decay = "steps"', "decay: should be 'none', 'linear' or 'cosine'"),
        ("warmup = 1.0", "warmup: should be less than 1"),
        ('decay = "linear"\nfinal = -0.1', "final: should be greater than or equal to 0"),
        ("warm_up = 0.1", "warm_up: unknown key; did you mean 'warmup'?"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError, match="schedule") as caught:
        parse_toml(text, Schedule, source="schedule")
    assert expected in str(caught.value)
