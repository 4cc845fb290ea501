import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job import TEXT, job_text, read_file

from sordino_protocols.accounting import renyi_curve
from sordino_protocols.fitting import noise_that_fits, rounds_that_fit
from sordino_protocols.job import Job
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import Event

DELTA = 1e-5


def read(text: str) -> Job:
    return resolve(read_file(text))


def within(epsilon: float) -> Callable[[Event], bool]:
    """As a ledger says it: the Rényi curve's epsilon fits into what is left."""
    return lambda event: renyi_curve(event).epsilon(DELTA) <= epsilon


@pytest.fixture(scope="module")
def job() -> Job:
    statistics = '[statistics]\nkind = "moments"'
    return read(job_text(statistics, epsilon=4, rounds=40).replace("_rate = 1\n", "_rate = 0.2\n"))


def cost(job: Job, *, rounds: int | None = None, noise: float | None = None) -> float:
    training = job.file.training
    assert training is not None
    changed = (
        job.file
        if rounds is None
        else job.file.model_copy(
            update={"training": training.model_copy(update={"rounds": rounds})}
        )
    )
    update = {"file": changed} | ({} if noise is None else {"training_noise_multiplier": noise})
    return renyi_curve(job.model_copy(update=update).plan.event).epsilon(DELTA)


@settings(max_examples=30, deadline=None)
@given(left=st.floats(0.1, 6.0))
def test_that_many_rounds_fit_and_not_one_more(job: Job, left: float) -> None:
    rounds = rounds_that_fit(job, within(left))
    assert 0 <= rounds <= 40
    if rounds > 0:
        assert cost(job, rounds=rounds) <= left
    if rounds < 40:
        assert cost(job, rounds=rounds + 1) > left


@settings(max_examples=30, deadline=None)
@given(left=st.floats(0.1, 6.0))
def test_that_noise_fits_and_a_hundredth_less_does_not(job: Job, left: float) -> None:
    noise = noise_that_fits(job, within(left))
    if noise is None:
        assert cost(job, noise=1e5) > left
        return
    least = job.plan.require_training().noise_multiplier
    assert noise >= least
    assert cost(job, noise=noise) <= left
    assert noise == least or cost(job, noise=noise * 0.99) > left


def test_what_fits_as_it_is_fits_as_it_is(job: Job) -> None:
    assert rounds_that_fit(job, within(100.0)) == 40
    assert noise_that_fits(job, within(100.0)) == job.training_noise_multiplier


def test_nothing_fits_into_nothing(job: Job) -> None:
    assert rounds_that_fit(job, within(0.0)) == 0
    assert noise_that_fits(job, within(0.0)) is None


@pytest.mark.parametrize("fits", [lambda _: True, lambda _: False])
def test_few_questions_are_asked(job: Job, fits: Callable[[Event], bool]) -> None:
    asked: list[Event] = []

    def counting(event: Event) -> bool:
        asked.append(event)
        return fits(event)

    rounds_that_fit(job, counting)
    noise_that_fits(job, counting)
    assert len(asked) <= math.ceil(math.log2(40)) + 4


def test_the_noise_of_a_validation_is_its_evaluations() -> None:
    text = TEXT.replace('kind = "train"', 'kind = "validate"')
    start, end = text.index("[training]"), text.index("[optimizer]")
    text = text[:start] + "[validation]\nweights_sha256 = '" + "ab" * 32 + "'\n" + text[end:]
    text = text.replace("[optimizer]\nlearning_rate = 2.0\n", "")
    validation = read(text)
    assert rounds_that_fit(validation, within(100.0)) == 0
    least = validation.plan.require_evaluation().noise_multiplier
    assert noise_that_fits(validation, within(100.0)) == least
    more = noise_that_fits(validation, within(1.0))
    assert more is not None
    assert more > least
    changed = validation.model_copy(update={"evaluation_noise_multiplier": more})
    assert renyi_curve(changed.plan.event).epsilon(DELTA) <= 1.0
