"""Jobs that train an autoregressive model of a table."""

import pytest
from small_job import TEXT, read_file

from sordino_protocols.errors import InputError
from sordino_protocols.job import read_job
from sordino_protocols.models import NadeModelSpec
from sordino_protocols.plan import EvaluationPlan
from sordino_protocols.pricing import price, resolve

NADE = TEXT.replace('kind = "logistic"', 'kind = "nade"\nhidden = 8\ncells = [4, 2, 7]').replace(
    "[training]", '[training]\nloss = "likelihood"'
)


def test_is_trained_priced_and_evaluated_like_any_other() -> None:
    job = resolve(read_file(NADE))
    assert read_job(job.canonical()) == job
    assert job.file.model == NadeModelSpec(kind="nade", hidden=8, cells=(4, 2, 7))
    plan = job.plan
    # Two layers with parameters, so lanes have two coordinates.
    assert plan.require_training().lane_groups == 2
    noise = plan.require_evaluation().noise_multiplier
    assert plan.evaluation == EvaluationPlan("likelihood", 10, 3, noise)
    assert plan.require_evaluation().shape == (1, 10)
    assert price(job).epsilon_pld <= 4.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            NADE.replace('loss = "likelihood"', 'loss = "binary"'),
            "model.kind = 'nade' needs training.loss = 'likelihood'",
        ),
        (
            TEXT.replace("[training]", '[training]\nloss = "likelihood"'),
            "training.loss = 'likelihood' needs model.kind = 'nade'",
        ),
        (NADE + '[statistics]\nkind = "moments"\n', "leave \\[statistics\\] out"),
        (
            NADE.replace(
                "[optimizer]",
                "[training.augmentation]\nimage = [1, 1, 3]\nviews = 2\n[optimizer]",
            ),
            "leave training.augmentation out",
        ),
        (NADE.replace("[4, 2, 7]", "[4, 0, 7]"), "model.cells\\[1\\]"),
    ],
)
def test_refuses_what_makes_no_sense(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_file(text)
