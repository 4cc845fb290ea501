"""A5, white box: the product's release keeps its promise, and what does not is found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statistical import FALSE_FAILURE, assert_rate
from synthesis_faults import PIPELINES, RELEASES, a_sensitivity_of_two, a_tenth_less_noise

from sordino_audit.synthesis import suite, white_box
from sordino_audit.synthesis.canary_tables import (
    CANARY,
    canary_schema,
    canary_tables,
    ordinary_table,
)
from sordino_audit.synthesis.structure import Published, released, structure
from sordino_audit.synthesis.subject import (
    Asked,
    Cells,
    Release,
    ReleaseCase,
    Released,
    case_of,
    default_cases,
    drawn_cells,
    extreme_cells,
    measured,
)
from sordino_client.training.noise import Noise
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.marginals import event_of
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

CaseMaker = Callable[..., tuple[ReleaseCase, Cells]]

DELTA = 1e-5
RUNS = 10_000
CERTAINTY = 1 - 1e-9


# --- cases


@pytest.mark.parametrize("case", default_cases(), ids=lambda case: case.name)
def test_the_claim_of_a_case_is_what_the_ledger_charges(case: ReleaseCase) -> None:
    charged = epsilon_by_pld(event_of(case.marginals, "record"), DELTA)
    assert case.epsilon(DELTA) == pytest.approx(charged, rel=0.02)


def test_drawn_cells_are_within_their_shape() -> None:
    shape = DomainShape(
        columns=(SingleShape(groups=(2, 1)), SetShape(items=5, at_most=2)), label=None
    )
    cells = drawn_cells(shape, 500, rng=np.random.default_rng(0))
    assert set(cells[:, 0]) == {0, 1, 2}
    assert set(cells[:, 1:].sum(axis=1)) == {0, 1, 2}
    assert extreme_cells(shape).tolist() == [[0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 1, 1]]


# --- white box


@pytest.mark.parametrize("make", [white_box.canary_case, white_box.set_canary_case])
def test_a_bound_on_the_product_is_close_to_the_claim_and_not_above(
    make: CaseMaker,
) -> None:
    case, canaries = make(noise_multiplier=1.0)
    found = white_box.judge(
        white_box.attack(case, canaries, runs=RUNS), delta=DELTA, confidence=CERTAINTY
    )
    assert 0.8 * found.claimed_mu < found.mu_low <= found.claimed_mu
    assert found.epsilon_low <= found.claimed_epsilon
    assert found.mu_low_of_counts <= found.mu_low
    assert found.p_value > FALSE_FAILURE


def test_readings_are_gaussians_a_claimed_mu_apart() -> None:
    case, canaries = white_box.canary_case(noise_multiplier=2.0)
    readings = white_box.attack(case, canaries, runs=RUNS)
    for side, mean in ((readings.inserted, case.mu), (readings.held_out, 0.0)):
        assert stats.kstest(side - mean, "norm").pvalue > FALSE_FAILURE


@pytest.mark.parametrize("fault", [a_tenth_less_noise, a_sensitivity_of_two])
def test_a_weaker_release_is_proved_to_break_its_claim(fault: Release) -> None:
    case, canaries = white_box.canary_case(noise_multiplier=1.0)
    readings = white_box.attack(case, canaries, runs=white_box.RUNS, release=fault)
    found = white_box.judge(readings, delta=DELTA, confidence=0.999)
    assert found.mu_low > found.claimed_mu
    assert found.p_value < 1e-3


def test_canaries_that_share_a_count_are_refused() -> None:
    case, canaries = white_box.canary_case(noise_multiplier=1.0)
    with pytest.raises(ValueError, match="share no count"):
        white_box.attack(case, np.repeat(canaries[:1], 2, axis=0), runs=10)


def test_the_bound_on_the_distance_of_gaussians_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    times, held = 400, 0
    for _ in range(times):
        inserted, held_out = rng.normal(0.9, 3.0, 60), rng.normal(0.0, 3.0, 60)
        held += white_box.distance_lower_bound(inserted, held_out, confidence=0.9) <= 0.3
    assert_rate(held, times, 0.9)


def test_no_distance_is_seen_where_there_is_none() -> None:
    same = np.random.default_rng(0).standard_normal(50)
    assert white_box.distance_lower_bound(same, same, confidence=0.95) == 0.0


# --- probes


def test_every_probe_of_the_product_passes() -> None:
    outcomes = suite.probe_release()
    assert [each.name for each in outcomes if not each.is_passed] == []
    assert len(outcomes) == 2 * len(suite.EXACT) + len(suite.RANDOM)


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_a_planted_fault_is_found(name: str) -> None:
    outcomes = suite.probe_release(RELEASES[name])
    assert any(not each.is_passed for each in outcomes)


def test_an_exact_probe_alone_finds_every_fault_but_that_of_shared_noise() -> None:
    missed = {
        name
        for name, release in RELEASES.items()
        if all(
            probe(release, case).is_passed
            for case in default_cases()
            for probe in suite.EXACT.values()
            if suite.EXACT["length of marginals"](release, case).is_passed
        )
    }
    assert missed <= {"the first marginal's noise again", "one number more"}


@pytest.mark.parametrize(
    ("fault", "probe"),
    [
        ("a tenth less noise", "scale of secret noise in counts"),
        ("noise by the number of units", "secret noise in counts of units"),
        ("one seed for all releases", "fresh noise in counts"),
        ("the first marginal's noise again", "fresh noise in counts"),
    ],
)
def test_a_probe_of_secret_noise_finds_its_fault(fault: str, probe: str) -> None:
    found = suite.RANDOM[probe](RELEASES[fault], default_cases()[0])
    assert not found.is_passed


def test_a_set_that_is_not_cut_is_found() -> None:
    case = default_cases()[1]
    free = DomainShape(
        columns=tuple(
            SetShape(items=each.items, at_most=each.items) if isinstance(each, SetShape) else each
            for each in case.shape.columns
        ),
        label=None,
    )

    def uncut(asked: Asked) -> Released:
        everything = np.where(asked.cells.sum(axis=1, keepdims=True) > 3, 1, asked.cells)
        cells = np.where(np.arange(asked.cells.shape[1]) == 6, asked.cells, everything)
        return measured(replace(asked, shape=free, cells=cells.astype(np.int32)))

    assert not suite.EXACT["sensitivity of marginals"](uncut, case).is_passed


# --- structure


def test_no_odd_table_shows_in_the_structure_of_a_release() -> None:
    found = structure()
    assert found.is_passed, found.message


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_fault_of_structure_is_found(name: str) -> None:
    assert not structure(PIPELINES[name]).is_passed


def test_an_error_that_repeats_a_cell_is_found() -> None:
    def echoing(frame: object, schema: Schema, noise: Noise) -> Published:
        del schema, noise
        raise InputError(f"what is this: {frame}")

    def repeating(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
        try:
            return released(frame, schema, noise)
        except InputError:
            return echoing(frame.to_string(), schema, noise)

    found = structure(repeating)
    assert not found.is_passed
    assert "sex: an undeclared word" in found.message


def test_odd_tables_are_of_all_kinds() -> None:
    schema = canary_schema()
    ordinary = ordinary_table(schema, rng=np.random.default_rng(0))
    tables = {each.name: each for each in canary_tables(schema, ordinary)}
    assert tables["work: an undeclared word"].frame["work"].iloc[0] == CANARY
    assert not tables["work: an undeclared word"].is_refused
    assert tables["sex: one cell missing"].is_refused
    assert tables["income: one cell missing"].frame.isna().sum().sum() == 1
    assert tables["nothing missing"].frame.isna().sum().sum() == 0
    assert len(set(tables["age: constant"].frame["age"])) == 1
    assert len(tables["no record"].frame) == 0


def test_a_case_can_be_made_of_any_shape() -> None:
    shape = DomainShape(columns=(SingleShape(groups=(3, 2)),), label=None)
    case = case_of("one column", shape, noise_multiplier=2.0)
    assert case.length == 5
    assert case.mu == pytest.approx(0.5, rel=1e-3)
    outcomes = suite.probe_release(cases=[case])
    assert all(each.is_passed for each in outcomes), outcomes
