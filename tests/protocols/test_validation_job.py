"""A job that brings a model: what it says, what it costs, and which numbers it binds."""

import hashlib

import numpy as np
import pytest
from small_job import TEXT, VALIDATION, read_file, validating

from sordino_protocols.errors import InputError
from sordino_protocols.job import read_job, weights_digest
from sordino_protocols.pricing import price, resolve
from sordino_protocols.privacy import Composed

DIGEST = "0a" * 32
OPTIMIZER = "[optimizer]\nlearning_rate = 2.0\n"
TRAINING = "[training]\nrounds = 3\nsampling_rate = 1\nclipping_norm = 0.5\n"


def test_a_validation_is_an_evaluation_and_nothing_else() -> None:
    job = resolve(read_file(VALIDATION))
    assert (job.purpose, job.file.loss) == ("validate", "binary")
    assert job.plan.training is None
    assert job.plan.statistics is None
    assert (job.plan.rounds, job.plan.lanes, job.plan.extra_coordinates) == (0, 0, 0)
    assert job.plan.event == Composed((job.plan.require_evaluation().event,))
    assert read_job(job.canonical()) == job


def test_a_validation_spends_what_its_file_says_on_the_evaluation() -> None:
    cost = price(resolve(read_file(VALIDATION)))
    assert 2.0 * (1 - 2e-3) <= cost.epsilon_pld <= 2.0
    assert cost.delta == 1e-5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VALIDATION + TRAINING, "job.kind = 'validate' has no use for [training]: leave it out"),
        (VALIDATION + OPTIMIZER, "job.kind = 'validate' has no use for [optimizer]: leave it out"),
        (
            VALIDATION + '[statistics]\nkind = "moments"\n',
            "job.kind = 'validate' has no use for [statistics]: leave it out",
        ),
        (
            VALIDATION.replace(f'[validation]\nweights_sha256 = "{DIGEST}"\n', ""),
            "job.kind = 'validate' needs [validation]",
        ),
        (
            VALIDATION.replace("[validation]", '[validation]\nloss = "cross_entropy"'),
            "validation.loss = 'cross_entropy' needs model.outputs of at least 2, one a class",
        ),
        (TEXT + "[validation]\n", "job.kind = 'train' has no use for [validation]: leave it out"),
    ],
)
def test_a_validation_that_contradicts_itself_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read_file(text)
    assert f"job.toml: (whole file): {expected}" in str(caught.value)


@pytest.mark.parametrize("digest", ["", "0a", DIGEST.upper(), DIGEST + "\n", "zz" * 32])
def test_a_digest_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(InputError, match=r"validation\.weights_sha256"):
        read_file(validating(digest.replace("\n", "\\n")))


def test_a_validation_is_not_complete_before_it_says_which_weights() -> None:
    file = read_file(VALIDATION.replace(f'weights_sha256 = "{DIGEST}"\n', ""))
    with pytest.raises(InputError, match=r"validation\.weights_sha256 is missing"):
        resolve(file)


def test_the_digest_is_of_the_numbers_and_of_their_order() -> None:
    weights = np.array([0.5, -2.0, 3.25], dtype=np.float32)
    nothing, scaling = np.zeros(0, dtype=np.float32), np.array([0.25, 4.0], dtype=np.float32)
    assert weights_digest(weights, nothing) == hashlib.sha256(weights.tobytes()).hexdigest()
    others = [
        weights_digest(weights[::-1].copy(), nothing),
        weights_digest(np.nextafter(weights, np.float32(9)), nothing),
        weights_digest(weights, scaling),
        weights_digest(weights, scaling[::-1].copy()),
    ]
    assert len({weights_digest(weights, nothing), *others}) == 5


def test_what_trains_nothing_has_no_training_to_ask_for() -> None:
    job = resolve(read_file(VALIDATION))
    for ask in (
        job.plan.require_training,
        job.file.require_training,
        job.file.require_optimizer,
        lambda: job.file.training_plan(1.0),
    ):
        with pytest.raises(InputError, match="trains nothing at the sites"):
            ask()
