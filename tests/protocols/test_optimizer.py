import pytest
from pydantic import BaseModel

from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, parse_toml
from sordino_protocols.optimizer import (
    AdamOptimizer,
    ServerOptimizer,
    SgdOptimizer,
    SgldOptimizer,
)
from sordino_protocols.schedules import Schedule


class Holder(BaseModel):
    model_config = STRICT

    optimizer: ServerOptimizer


def read(text: str) -> ServerOptimizer:
    return parse_toml(f"[optimizer]\n{text}", Holder, source="job.toml").optimizer


def test_descent_is_what_a_file_means_that_names_no_kind() -> None:
    assert read("learning_rate = 2.0\nmomentum = 0.5") == SgdOptimizer(
        learning_rate=2.0, momentum=0.5
    )


def test_every_kind_is_read_with_its_own_keys() -> None:
    head = "learning_rate = 1\n"
    assert read(head + 'kind = "sgd"\nweight_decay = 0.1') == SgdOptimizer(
        learning_rate=1.0, weight_decay=0.1
    )
    assert read(head + 'kind = "adam"\nbeta2 = 0.95\naverage_decay = 0.9') == AdamOptimizer(
        kind="adam", learning_rate=1.0, beta2=0.95, average_decay=0.9
    )
    assert read(head + 'kind = "sgld"\ntemperature = 0.5') == SgldOptimizer(
        kind="sgld", learning_rate=1.0, temperature=0.5
    )
    assert read(head + '[optimizer.schedule]\ndecay = "cosine"').schedule == Schedule(
        decay="cosine"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "optimizer.learning_rate: missing"),
        ("learning_rate = 0", "optimizer.learning_rate: should be greater than 0"),
        ("learning_rate = nan", "optimizer.learning_rate: must be finite"),
        ("learning_rate = 1\nmomentum = 1.0", "optimizer.momentum: should be less than 1"),
        ("learning_rate = 1\nmomentum = -0.1", "optimizer.momentum: should be greater than or"),
        ("learning_rate = 1\naverage_from = 1.1", "optimizer.average_from: should be less than"),
        ("learning_rate = 1\naverage_decay = 1", "optimizer.average_decay: should be less than 1"),
        ("learning_rate = 1\nbeta1 = 0.9", "optimizer.beta1: unknown key"),
        ("learning_rate = 1\nmomentun = 0.9", "did you mean 'momentum'?"),
        ('learning_rate = 1\nkind = "lbfgs"', "kind must be 'sgd', 'adam' or 'sgld'"),
        ('learning_rate = 1\nkind = "adam"\nbeta2 = 1.0', "optimizer.beta2: should be less than 1"),
        ('learning_rate = 1\nkind = "adam"\nstability = 0', "optimizer.stability: should be great"),
        ('learning_rate = 1\nkind = "adam"\nmomentum = 0.9', "optimizer.momentum: unknown key"),
        ('learning_rate = 1\nkind = "sgld"\ntemperature = 0', "optimizer.temperature: should be"),
        (
            'learning_rate = 1\nkind = "sgld"\naverage_decay = 0.9',
            "average_decay has no meaning for samples of a posterior",
        ),
    ],
)
def test_an_optimizer_that_makes_no_sense_is_refused_by_its_key(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert expected in str(caught.value)
