"""A5, from outside: attacks on synthetic rows find what is there, and no more."""

import numpy as np
import pytest
from statistical import assert_rate

from sordino_audit.synthesis.discriminator import discriminator_auc, one_hot
from sordino_audit.synthesis.divergence import (
    advantage,
    agreement,
    divergences,
    largest_advantage,
)
from sordino_audit.synthesis.nearest import LABEL, closest, nearest_records
from sordino_audit.synthesis.queries import (
    Cells,
    Design,
    Floats,
    answers,
    discriminant,
    queries_about,
    query_attack,
    shadow_attack,
)
from sordino_audit.synthesis.subject import drawn_cells
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

DESIGN = Design(shadows=60, judged=200)


def test_queries_ask_for_each_position_and_for_several() -> None:
    queries = queries_about(5, 40, rng=np.random.default_rng(0))
    assert len(queries) == 40
    assert queries[:5] == ((0,), (1,), (2,), (3,), (4,))
    assert {len(each) for each in queries} == {1, 2, 3, 4}


def test_one_position_leaves_one_query() -> None:
    assert queries_about(1, 40, rng=np.random.default_rng(0)) == ((0,),)


def test_answers_count_rows_that_agree() -> None:
    rows = np.array([[0, 1], [0, 2], [3, 1]], dtype=np.int32)
    found = answers(rows, np.array([0, 1], dtype=np.int32), ((0,), (1,), (0, 1)))
    assert found.tolist() == [2.0, 2.0, 1.0]


def test_a_synthesizer_that_copies_is_found_out() -> None:
    rng = np.random.default_rng(1)
    others = rng.integers(0, 4, (50, 3)).astype(np.int32)
    target = np.array([5, 5, 5], dtype=np.int32)

    def copying(cells: Cells) -> Cells:
        return cells[rng.integers(0, len(cells), 200)]

    found = query_attack(copying, others, target, DESIGN, rng=rng)
    assert found.auc > 0.95
    assert found.epsilon_low > 2.0


def test_rows_that_know_nothing_of_the_target_give_nothing_away() -> None:
    rng = np.random.default_rng(2)

    def ignoring(cells: Cells) -> Cells:
        return rng.integers(0, 4, (100, cells.shape[1])).astype(np.int32)

    others = rng.integers(0, 4, (50, 3)).astype(np.int32)
    false_alarms = 0
    for _ in range(40):
        found = query_attack(
            ignoring, others, others[0], Design(shadows=20, judged=60, queries=10), rng=rng
        )
        false_alarms += found.epsilon_low > 0
    assert_rate(false_alarms, 40, 0.05, at_most=True)


def test_the_bound_on_noisy_answers_is_close_to_their_privacy_loss() -> None:
    rng = np.random.default_rng(3)

    def noisy(has_target: bool) -> Floats:  # noqa: FBT001
        return np.array([3.0 * has_target, 0.0, 7.0]) + np.array([1.0, 1.0, 0.0]) * rng.normal(
            size=3
        )

    found = shadow_attack(noisy, Design(shadows=200, judged=1000), rng=rng)
    # Of mu = 3: epsilon 12.8 at 1e-5, of which 1,000 releases can show half.
    assert 2.5 < found.epsilon_low < 12.8
    assert found.auc == pytest.approx(0.983, abs=0.03)


def test_an_answer_that_tells_everything_is_followed() -> None:
    noise = np.random.default_rng(4).normal(size=(2, 200))
    with_target, without = (np.stack([np.full(200, on), noise[on]], axis=1) for on in (1, 0))
    direction = discriminant(with_target, without)
    assert direction[0] > 10 * abs(direction[1])


def test_too_few_releases_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        shadow_attack(lambda _: np.zeros(1), Design(1, 1), rng=np.random.default_rng(0))


# --- divergence of an attribute


def test_the_largest_advantage_is_that_of_randomized_response() -> None:
    # Warner's coin with e^1 : 1 reaches it; delta adds what it says.
    assert largest_advantage(1.0, 0.0) == pytest.approx((np.e - 1) / (np.e + 1))
    assert largest_advantage(0.0, 0.01) == pytest.approx(0.01)


def test_agreement_is_the_share_of_rows_like_a_record() -> None:
    rows = np.array([[0, 1], [0, 2], [3, 1], [0, 1]], dtype=np.int32)
    records = np.array([[0, 1], [9, 9]], dtype=np.int32)
    assert agreement(rows, records, (0, 1)).tolist() == [0.5, 0.0]
    assert agreement(rows, records, (0,)).tolist() == [0.75, 0.0]


def test_rows_that_are_copies_diverge_between_members_and_strangers() -> None:
    rng = np.random.default_rng(5)
    members, strangers = (rng.integers(0, 8, (400, 4)).astype(np.int32) for _ in range(2))
    asked = {"everything": (0, 1, 2, 3), "the first": (0,)}
    found = divergences(members, members, strangers, asked, most=0.4, confidence=1 - 1e-9, rng=rng)
    everything, first = found
    assert everything.advantage.low > everything.most
    assert first.advantage.low <= 0 <= first.advantage.high
    assert everything.records == 400


def test_an_interval_of_an_advantage_covers_none_where_there_is_none() -> None:
    rng, missed = np.random.default_rng(6), 0
    for _ in range(200):
        members, strangers = rng.poisson(3.0, (2, 100)).astype(np.float64)
        found = advantage(members, strangers, confidence=0.9, rng=rng)
        missed += not found.low <= 0 <= found.high
    assert_rate(missed, 200, 0.1, at_most=True)


def test_few_records_show_no_advantage() -> None:
    with pytest.raises(ValueError, match="four records"):
        advantage(np.ones(3), np.ones(9), confidence=0.9, rng=np.random.default_rng(0))


# --- discriminator, diagnostics


SHAPE = DomainShape(
    columns=(SingleShape(groups=(1,) * 6), SetShape(items=8, at_most=8)), label=None
)


def test_one_hot_cells_have_a_place_for_each_cell() -> None:
    cells = np.array([[2, 1, 0, 0, 0, 0, 0, 0, 1]], dtype=np.int32)
    assert one_hot(cells, SHAPE).tolist() == [[0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]]


def test_a_discriminator_finds_members_that_rows_repeat_and_no_others() -> None:
    rng = np.random.default_rng(7)
    members, strangers, population = (drawn_cells(SHAPE, n, rng=rng) for n in (40, 400, 400))
    copied = members[rng.integers(0, len(members), 400)]
    fresh = drawn_cells(SHAPE, 400, rng=rng)
    found, nothing = (
        discriminator_auc(rows, members, strangers, population, shape=SHAPE, seed=3)
        for rows in (copied, fresh)
    )
    assert found > 0.85
    assert 0.3 < nothing < 0.7


def test_distances_to_records_are_shown_with_what_they_are_worth() -> None:
    rng = np.random.default_rng(8)
    members, strangers = (drawn_cells(SHAPE, 300, rng=rng) for _ in range(2))
    copies = nearest_records(members[:50], members, strangers)
    assert (copies.identical, copies.median) == (1.0, 0.0)
    assert copies.label == LABEL
    assert copies.identical_among_strangers < 0.9
    with pytest.raises(ValueError, match="expected rows"):
        nearest_records(members[:0], members, strangers)


def test_the_closest_record_is_the_closest() -> None:
    rng = np.random.default_rng(9)
    rows, records = (rng.integers(0, 3, (n, 5)).astype(np.int32) for n in (600, 40))
    expected = [min(int(np.sum(row != record)) for record in records) for row in rows]
    assert closest(rows, records).tolist() == expected
