"""The live violation: Opacus' stock loop changes its scale with the number of records."""

import pytest
from opacus_loop import CONFIDENCE, Powers, engine_powers, opacus_powers, opacus_trainer

from sordino_audit.probes import randomness, replay
from sordino_audit.probes.trainer import Case, engine
from sordino_client.training.arithmetic import Performance
from sordino_protocols.models import LogisticSpec
from sordino_protocols.plan import TrainingPlan

CASE = Case(
    "a logistic model",
    LogisticSpec(kind="logistic"),
    TrainingPlan(
        sampling_rate=1 / 3,
        noise_multiplier=2.0,
        clipping_norm=0.7,
        rounds=3,
        local_steps=1,
        local_learning_rate=0.1,
        lanes=0,
        update="delta",
    ),
    Performance(),
    seed=3,
)


@pytest.fixture(scope="module")
def attacked() -> Powers:
    return opacus_powers()


def test_one_record_more_is_seen_in_the_scale_of_opacus_releases(attacked: Powers) -> None:
    assert attacked.claimed < 0.02
    assert attacked.epsilon_low >= 4.17
    assert CONFIDENCE == 0.999


def test_the_same_attack_on_the_product_finds_nothing(attacked: Powers) -> None:
    assert engine_powers(attacked.claimed).epsilon_low == 0


def test_the_probe_of_the_data_sets_size_finds_it() -> None:
    found = randomness.unit_count(opacus_trainer(8), CASE)
    assert not found.is_passed
    assert randomness.unit_count(engine, CASE).is_passed


def test_a_loop_with_a_public_divisor_passes_that_probe() -> None:
    assert randomness.unit_count(opacus_trainer(8, is_mended=True), CASE).is_passed


def test_a_record_that_is_no_number_poisons_an_opacus_release() -> None:
    assert not replay.empty_record(opacus_trainer(8), CASE).is_passed
    assert replay.empty_record(engine, CASE).is_passed
