"""Scores and groups: what is as good as real records scores so, and what is worse does not."""

import numpy as np
import numpy.typing as npt
import pytest

from sordino.synthetic_utility import (
    MODEL_KINDS,
    Examples,
    ModelKind,
    group_accuracies,
    groups_of,
    model_scores,
    rank_agreement,
    subgroups,
)
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Task
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

SHAPE = DomainShape(
    columns=(
        SingleShape(groups=(1, 1)),
        SetShape(items=2, at_most=2),
        SingleShape(groups=(1, 1, 1)),
    )
)


def examples(count: int, *, seed: int, task: Task = "binary") -> Examples:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 3))
    value = 2 * features[:, 0] - features[:, 1] + 0.3 * rng.normal(size=count)
    labels: dict[Task, npt.NDArray[np.float64]] = {
        "binary": (value > 0).astype(np.float64),
        "classes": np.digitize(value, [-1, 1]).astype(np.float64),
        "number": value,
    }
    return Examples(features.astype(np.float32), labels[task].astype(np.float32))


def unlabelled(train: Examples) -> Examples:
    """The same records with labels that say nothing."""
    return Examples(train.features, np.random.default_rng(0).permutation(train.labels))


@pytest.mark.parametrize(
    ("task", "high", "low"), [("binary", 0.95, 0.65), ("classes", 0.8, 0.5), ("number", 0.8, 0.1)]
)
def test_records_that_carry_the_label_score_and_others_do_not(
    task: Task, high: float, low: float
) -> None:
    train, test = examples(1_000, seed=1, task=task), examples(1_000, seed=2, task=task)
    good = model_scores(train, test, task=task, seed=0)
    assert tuple(good) == MODEL_KINDS
    assert min(good.values()) > high
    bad = model_scores(unlabelled(train), test, task=task, seed=0)
    assert np.mean(list(bad.values())) < low


def test_a_table_that_lost_a_class_scores_as_chance_does() -> None:
    train, test = examples(50, seed=1), examples(400, seed=2)
    one = Examples(train.features, np.ones_like(train.labels))
    assert set(model_scores(one, test, task="binary", seed=0).values()) == {0.5}
    share = float(test.labels.mean())
    assert model_scores(one, test, task="classes", seed=0)["linear"] == pytest.approx(share)


def test_models_are_ranked_alike_or_not() -> None:
    real: dict[ModelKind, float] = {"linear": 0.9, "boosted trees": 0.95, "random forest": 0.93}
    assert rank_agreement(real, {name: score - 0.1 for name, score in real.items()}) == 1
    swapped: dict[ModelKind, float] = {**real, "linear": 0.99}
    assert rank_agreement(real, swapped) == pytest.approx(1 / 3)
    assert rank_agreement({"linear": 0.9}, {"linear": 0.1}) == 1


def test_groups_are_counted_and_compared_largest_first() -> None:
    real = np.array([[0, 0, 0, 0]] * 6 + [[1, 1, 1, 2]] * 3 + [[1, 0, 0, 0]], dtype=np.int32)
    synthetic = np.array([[0, 0, 0, 0]] * 12 + [[1, 0, 0, 2]] * 12, dtype=np.int32)
    found = subgroups(real, synthetic, SHAPE, (0, 2))
    assert [(each.cells, each.records) for each in found] == [((0, 0), 6), ((1, 2), 3), ((1, 0), 1)]
    assert [each.ratio for each in found] == pytest.approx([0.5 / 0.6, 0.5 / 0.3, 0.0])


def test_a_set_makes_no_group() -> None:
    with pytest.raises(InputError, match="column of sets"):
        groups_of(np.zeros((1, 4), dtype=np.int32), SHAPE, (1,))


def test_a_group_that_the_table_gets_wrong_is_the_one_that_shows() -> None:
    train, test = examples(3_000, seed=3), examples(2_000, seed=4)
    group = (test.features[:, 2] > 1).astype(np.int64)
    wrong = np.where(train.features[:, 2] > 1, 1 - train.labels, train.labels)
    found = group_accuracies(
        train, Examples(train.features, wrong.astype(np.float32)), test, group, seed=0
    )
    assert found[0].records + found[1].records == len(group)
    assert found[0].trained_on_synthetic == pytest.approx(found[0].trained_on_real, abs=0.03)
    assert found[1].trained_on_real > 0.85
    assert found[1].trained_on_synthetic < 0.3
