"""Where a synthesis' privacy goes: shares that add up, and agree with the accountant."""

import itertools

import numpy as np
import pytest
from plausible_synthesis import SCHEMA, synthesis_job

from sordino.synthesis_budget import column_shares, share_matrix, step_costs, table_shares
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.pricing import resolve
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.marginals import event_of

NAMES = [column.name for column in domain_of(SCHEMA).columns]


@pytest.fixture(scope="module")
def plan() -> SynthesisPlan:
    return resolve(synthesis_job()).plan.require_synthesis()


def test_shares_add_up_to_all(plan: SynthesisPlan) -> None:
    shares = table_shares(plan, NAMES)
    assert sum(each.share for each in shares) == pytest.approx(1)
    assert sum(column_shares(shares, NAMES).values()) == pytest.approx(1)
    matrix = share_matrix(shares, NAMES)
    assert np.triu(matrix).sum() == pytest.approx(1)
    assert np.array_equal(matrix, matrix.T)


def test_fine_tables_have_the_share_that_the_job_gives_them(plan: SynthesisPlan) -> None:
    fine = sum(each.share for each in table_shares(plan, NAMES) if each.is_fine)
    # Sigmas are rounded up to four digits.
    assert fine == pytest.approx(0.15, abs=0.001)


def test_shares_agree_with_the_accountant(plan: SynthesisPlan) -> None:
    # What a table costs alone grows with its share, and with nothing else.
    shares = [each.share for each in table_shares(plan, NAMES)]
    alone = [epsilon_by_pld(event_of([each], plan.unit), 1e-5) for each in plan.marginals]
    for (low, cheap), (high, dear) in itertools.pairwise(sorted(zip(shares, alone, strict=True))):
        assert cheap <= dear + 1e-3, (low, high)
    assert max(alone) > 2 * min(alone)


def test_pairs_with_the_label_have_more(plan: SynthesisPlan) -> None:
    by_title = {frozenset(each.columns): each.share for each in table_shares(plan, NAMES)}
    assert by_title[frozenset({"ill", "ward"})] > by_title[frozenset({"towers", "ward"})]


def test_a_trained_generator_pays_step_by_step() -> None:
    file = synthesis_job("table", generator="nade")
    plan = resolve(file).plan.require_synthesis()
    costs = step_costs(plan, 1e-5)
    spent = [each.epsilon for each in costs]
    assert spent == sorted(spent)
    assert costs[0].steps == 1
    assert spent[-1] <= 1.0
    assert table_shares(plan, NAMES) == ()


def test_the_mixture_has_no_steps(plan: SynthesisPlan) -> None:
    assert step_costs(plan, 1e-5) == ()
