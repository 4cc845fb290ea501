"""What goes through the network is what the units say, wherever it lies in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from model_kinds import KINDS
from seeded_noise import NoNoise

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import Performance
from sordino_client.training.augmentation import Views
from sordino_client.training.clipping import clipped_sum, network_for, outputs, predict
from sordino_client.training.sampling import ABSENT
from sordino_client.training.units import ALL_AS_THEY_ARE, Draw, Units, draw, gather, rows_per_unit
from sordino_protocols.local_training import Augmentation
from sordino_protocols.models import LogisticSpec
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.scaling import Scaling

NOBODY = np.zeros(0, np.int64)
LOGISTIC = LogisticSpec(kind="logistic")
MLP = KINDS["mlp"]
ENTITIES = Entities(np.arange(6), np.array([0, 1, 3, 6]))
SCALING = Scaling(np.linspace(-0.5, 0.5, 5), np.array([1.0, 2.0, 0.5, 100.0, 1.0]))


def make_plan(unit: str = "record", **options: object) -> TrainingPlan:
    fields: dict[str, object] = {
        "sampling_rate": 1.0,
        "noise_multiplier": 1.0,
        "clipping_norm": 1.0,
        "rounds": 1,
        "local_steps": 1,
        "local_learning_rate": 1.0,
        "lanes": 0,
        "unit": unit,
    }
    return TrainingPlan(**(fields | options))  # type: ignore[arg-type]


def records(count: int = 6) -> Units:
    return Units(np.asarray(MLP.records(count), np.float32), MLP.labels(count), NOBODY)


def test_refuses_arrays_that_do_not_belong_together() -> None:
    features, labels = np.zeros((6, 3), np.float32), np.zeros(6, np.float32)
    with pytest.raises(ValueError, match="labels"):
        Units(features, labels[:5], NOBODY)
    with pytest.raises(ValueError, match="canary_lanes"):
        Units(features, labels, np.zeros((1, 1), np.int64))
    with pytest.raises(ValueError, match="entity"):
        Units(features[:5], labels[:5], NOBODY, ENTITIES)
    with pytest.raises(ValueError, match="indices"):
        Units(features.astype(np.int64), labels, NOBODY, scaling=SCALING)


def test_counts_entities_or_records_and_canaries() -> None:
    features, labels = np.zeros((6, 3), np.float32), np.zeros(6, np.float32)
    lanes = np.array([3, 4])
    assert len(Units(features, labels, lanes)) == 8
    assert len(Units(features, labels, lanes, ENTITIES)) == 5


def test_shows_nothing_of_what_is_secret() -> None:
    moves, mirrored = np.ones((2, 1), np.int64), np.ones((2, 1), np.bool_)
    units, drawn = records(), Draw(np.array([[4, 2]]), Views((1, 1, 1), moves, moves, mirrored))
    rows = gather(units, np.array([1]), ALL_AS_THEY_ARE, rows_per_unit=1, row_count=1)
    shown = [repr(each) for each in (units, drawn, drawn.views, rows)]
    assert shown == ["Units(...)", "Draw(...)", "Views(...)", "Rows(...)"]


@pytest.mark.parametrize("count", [0, 6])
def test_refuses_a_plan_for_the_other_kind_of_unit(count: int) -> None:
    units = records(count)
    whose = Entities(np.arange(count), np.arange(count + 1))
    entities = Units(units.features, units.labels, NOBODY, whose)
    everyone = np.arange(count)
    with pytest.raises(ValueError, match="'entity'"):
        draw(units, everyone, make_plan("entity"), noise=NoNoise())
    with pytest.raises(ValueError, match="'record'"):
        draw(entities, everyone, make_plan("record"), noise=NoNoise())
    assert draw(units, everyone, make_plan("record"), noise=NoNoise()) == Draw()


def test_refuses_images_that_are_none_even_for_an_empty_batch() -> None:
    augmentation = Augmentation(image=(1, 2, 2), views=2)
    with pytest.raises(ValueError, match="5 features are no images of 4"):
        draw(records(), NOBODY, make_plan(augmentation=augmentation), noise=NoNoise())


def test_rows_a_unit_are_public() -> None:
    augmentation = Augmentation(image=(1, 5, 1), views=3)
    plan = make_plan("entity", records_per_unit=4, augmentation=augmentation)
    units = records()
    entities = Units(units.features, units.labels, NOBODY, ENTITIES)
    assert rows_per_unit(plan) == 12
    assert draw(entities, np.arange(3), plan, noise=NoNoise()).rows_per_unit == 12
    assert (
        rows_per_unit(make_plan())
        == draw(units, NOBODY, make_plan(), noise=NoNoise()).rows_per_unit
    )


def test_absent_rows_and_padding_are_zeros_that_count_nothing() -> None:
    units = records()
    units = Units(units.features, units.labels + 1, NOBODY, ENTITIES, SCALING)
    drawn = Draw(np.array([[0, ABSENT, ABSENT], [2, 1, ABSENT]]))
    rows = gather(units, np.array([0, 1]), drawn, rows_per_unit=4, row_count=10)
    present = [0, 4, 5]
    assert rows.shares is not None
    assert torch.nonzero(rows.shares).flatten().tolist() == present
    assert torch.nonzero(rows.labels).flatten().tolist() == present
    assert torch.nonzero(rows.features.abs().sum(dim=1)).flatten().tolist() == present
    expected = SCALING.apply(np.asarray(units.features[[0, 2, 1]], np.float32))
    assert np.array_equal(rows.features[present].numpy(), expected)


def test_scaled_features_are_those_that_were_scaled_before() -> None:
    units = records()
    before = SCALING.apply(np.asarray(units.features, np.float32))
    weights = np.random.default_rng(0).standard_normal(5 + 1)
    scaled = Units(units.features, units.labels, NOBODY, scaling=SCALING)
    done = Units(before, units.labels, NOBODY)
    sums = [
        clipped_sum(each, np.arange(6), weights, LOGISTIC, bound=0.5) for each in (scaled, done)
    ]
    assert np.array_equal(sums[0], sums[1])
    plain = predict(weights, LOGISTIC, before)
    assert np.array_equal(predict(weights, LOGISTIC, units.features, scaling=SCALING), plain)
    assert predict(weights, LOGISTIC, units.features[:0], scaling=SCALING).shape == (0,)
    assert not np.array_equal(predict(weights, LOGISTIC, units.features), plain)


@pytest.mark.filterwarnings("error")
def test_features_mapped_from_a_file_are_like_those_in_memory(tmp_path: Path) -> None:
    units = records(600)
    path = tmp_path / "features"
    path.write_bytes(units.features.tobytes())
    mapped = np.memmap(path, dtype=np.float32, mode="r", shape=units.features.shape)
    weights = np.random.default_rng(0).standard_normal(5 + 1)
    for scaling in (None, SCALING):
        sums, answers = [], []
        for features in (units.features, mapped):
            same = Units(features, units.labels, NOBODY, scaling=scaling)
            sums.append(clipped_sum(same, np.arange(600), weights, LOGISTIC, bound=0.5))
            answers.append(outputs(weights, LOGISTIC, features, scaling=scaling))
        assert np.array_equal(sums[0], sums[1])
        assert torch.equal(*answers)


def test_whole_numbers_are_looked_up_as_what_they_are() -> None:
    kind = KINDS["embedding"]
    network = network_for(kind.spec, kind.features, "cross_entropy")
    weights = np.random.default_rng(0).standard_normal(network.dimension)
    words, labels = kind.records(7), kind.labels(7)
    sums = [
        clipped_sum(Units(each, labels, NOBODY), np.arange(7), weights, network, bound=0.5)
        for each in (words, words.astype(np.float32))
    ]
    assert np.array_equal(sums[0], sums[1])
    assert sums[0].any()


def test_a_network_is_made_once_for_each_loss_and_performance() -> None:
    double = Performance(precision="double")
    first = network_for(LOGISTIC, 5)
    assert (
        network_for(LogisticSpec(kind="logistic"), 5, "binary", performance=Performance()) is first
    )
    others = [
        network_for(LOGISTIC, 4),
        network_for(LOGISTIC, 5, "squared"),
        network_for(LOGISTIC, 5, performance=double),
    ]
    assert all(other is not first for other in others)
    assert network_for(first, 99, "squared", performance=double) is first


@pytest.mark.parametrize("scaling", [None, SCALING])
@pytest.mark.parametrize("layout", ["as it is", "off by a number", "by columns"])
def test_rows_are_copies_in_memory_that_begins_alike(layout: str, scaling: Scaling | None) -> None:
    units = records(50)
    features = units.features
    if layout == "off by a number":
        features = np.empty(features.size + 1, np.float32)[1:].reshape(features.shape)
        features[...] = units.features
    if layout == "by columns":
        features = features.copy(order="F")
    features.flags.writeable = False
    chosen = np.array([7, 3, 49])
    moved = Units(features, units.labels, NOBODY, scaling=scaling)
    rows = gather(moved, chosen, Draw(), rows_per_unit=1, row_count=5)
    expected = features[chosen] if scaling is None else scaling.apply(features[chosen])
    assert np.array_equal(rows.features[:3].numpy(), expected)
    assert np.array_equal(rows.labels[:3].numpy(), units.labels[chosen])
    assert len(rows.features) == len(rows.labels) == 5
    assert rows.features.data_ptr() % 64 == rows.labels.data_ptr() % 64 == 0
