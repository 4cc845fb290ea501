import pytest
from small_ledger import BUDGET, EVALUATION, ROUND, RUN, hold, now, reserve

from sordino_client.chain_store import Location
from sordino_client.ledger import BudgetExhaustedError, Ledger, LedgerError
from sordino_protocols.accounting import renyi_curve
from sordino_protocols.privacy import Gaussian

LARGE = Gaussian(0.9)


def reopened(ledger: Ledger, store: Location) -> Ledger:
    ledger.close()
    return Ledger(store, now=now)


def test_data_sets_of_one_lineage_draw_on_one_budget(ledger: Ledger) -> None:
    hold(ledger, "run-1", dataset="heart", lineage="patients", event=LARGE)
    assert ledger.lineage("run-1") == "patients"
    with pytest.raises(BudgetExhaustedError, match="lineage 'patients'"):
        hold(ledger, "run-2", dataset="heart-adults", lineage="patients", event=LARGE)
    assert not ledger.fits("patients", LARGE, BUDGET)
    hold(ledger, "run-3", dataset="lung", event=LARGE)


def test_a_run_keeps_its_lineage(ledger: Ledger) -> None:
    hold(ledger, lineage="patients")
    with pytest.raises(LedgerError, match="another hold"):
        hold(ledger, lineage="people")


@pytest.mark.parametrize("by_link", [True, False])
def test_another_lineage_gives_nothing_back(
    store: Location, ledger: Ledger, *, by_link: bool
) -> None:
    hold(ledger, "run-1", event=LARGE)
    reserve(ledger, "evaluation", event=LARGE)
    ledger.settle("run-1")
    spent = ledger.balance("heart", BUDGET).spent
    # The admin now says that the data set is of the lineage "patients".
    if by_link:
        ledger.link(dataset="heart", lineage="patients")
    with pytest.raises(BudgetExhaustedError):
        hold(ledger, "run-2", lineage="patients", event=LARGE)
    assert ledger.balance("patients", BUDGET).spent == spent
    hold(ledger, "run-3", lineage="patients", event=ROUND)
    # From then on the ledger remembers, whoever asks, under either name.
    again = reopened(ledger, store)
    for lineage in ("heart", "patients"):
        assert again.balance(lineage, BUDGET).spent == spent
        assert not again.fits(lineage, LARGE, BUDGET)
    again.close()


def test_lineages_that_shared_a_data_set_count_together_in_any_order(ledger: Ledger) -> None:
    hold(ledger, "run-1", dataset="heart", lineage="a", event=ROUND)
    hold(ledger, "run-2", dataset="lung", lineage="b", event=EVALUATION)
    assert ledger.balance("a", BUDGET) != ledger.balance("b", BUDGET)
    hold(ledger, "run-3", dataset="heart", lineage="b", event=ROUND)
    together = renyi_curve(ROUND) + renyi_curve(EVALUATION) + renyi_curve(ROUND)
    for lineage in ("a", "b"):
        held = ledger.balance(lineage, BUDGET).held
        assert held == pytest.approx(together.epsilon(BUDGET.delta))
    reserve(ledger, "round-1", run_id="run-3")
    ledger.settle("run-1")
    ledger.settle("run-3")
    assert ledger.balance("a", BUDGET) == ledger.balance("b", BUDGET)
    spent = renyi_curve(ROUND).epsilon(BUDGET.delta)
    assert ledger.balance("a", BUDGET).spent == pytest.approx(spent)


def test_what_would_be_left_after_a_hold_is_what_is_left_after_it(ledger: Ledger) -> None:
    hold(ledger, "run-1")
    expected = ledger.balance_after("heart", RUN, BUDGET)
    assert expected.left < ledger.balance("heart", BUDGET).left
    hold(ledger, "run-2")
    assert ledger.balance("heart", BUDGET).left == pytest.approx(expected.left)


def test_steps_are_listed_in_order(ledger: Ledger) -> None:
    assert ledger.steps("run-1") == ()
    hold(ledger)
    for step in ("round-2", "round-10", "round-1"):
        reserve(ledger, step)
    assert ledger.steps("run-1") == ("round-2", "round-10", "round-1")
