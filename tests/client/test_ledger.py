import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from small_ledger import BUDGET, EVALUATION, ROUND, RUN, hold, now, reserve

from sordino_client.chain_store import Location
from sordino_client.ledger import (
    GENESIS,
    BudgetExhaustedError,
    Ledger,
    LedgerError,
    Reservation,
)
from sordino_protocols.accounting import renyi_curve, total
from sordino_protocols.errors import IntegrityError
from sordino_protocols.privacy import Gaussian, Guarantee

# --- hold, reserve, commit, settle --------------------------------------------------------------


def test_a_new_ledger_has_spent_nothing(ledger: Ledger) -> None:
    balance = ledger.balance("heart", BUDGET)
    assert (balance.spent, balance.held, balance.left) == (0.0, 0.0, 8.0)
    assert (ledger.length, ledger.head) == (0, GENESIS)


def test_a_hold_sets_aside_and_a_reservation_spends(ledger: Ledger) -> None:
    hold(ledger)
    whole = renyi_curve(RUN).epsilon(BUDGET.delta)
    held = ledger.balance("heart", BUDGET)
    assert held.spent == 0.0
    assert held.held == pytest.approx(whole)
    assert held.left == pytest.approx(8.0 - whole)
    reserve(ledger, "round-1")
    spent = ledger.balance("heart", BUDGET)
    assert spent.spent == pytest.approx(renyi_curve(ROUND).epsilon(BUDGET.delta))
    assert spent.spent + spent.held == pytest.approx(whole)
    assert spent.left == held.left


def test_settling_returns_what_was_not_reserved_and_no_more(ledger: Ledger) -> None:
    hold(ledger)
    reserve(ledger, "round-1")
    spent = ledger.balance("heart", BUDGET).spent
    ledger.settle("run-1")
    after = ledger.balance("heart", BUDGET)
    assert after.spent == spent
    assert after.held == 0.0
    assert after.left == pytest.approx(8.0 - spent)


def test_when_every_run_is_settled_nothing_is_held_not_even_a_rounding(ledger: Ledger) -> None:
    # What is left of a sum that was taken in two orders would be held by nobody, for ever.
    for number in range(12):
        run_id = f"run-{number}"
        hold(ledger, run_id, event=ROUND)
        hold(ledger, f"other-{number}", event=EVALUATION)
        reserve(ledger, "round-1", run_id=run_id)
        reserve(ledger, "evaluation", run_id=f"other-{number}", event=EVALUATION)
        for each in (f"other-{number}", run_id):
            ledger.settle(each)
        assert ledger.balance("heart", BUDGET).held == 0.0


def test_everything_may_be_said_twice_and_counts_once(ledger: Ledger) -> None:
    for _ in range(2):
        hold(ledger)
    for _ in range(2):
        first = reserve(ledger, "round-1")
    for _ in range(2):
        ledger.commit(first, release_sha256="cd" * 32)
    for _ in range(2):
        ledger.settle("run-1")
    assert ledger.length == 4
    assert ledger.charged("run-1") == (ROUND,)
    assert ledger.committed("run-1", "round-1") == "cd" * 32


def test_a_second_meaning_is_refused(ledger: Ledger) -> None:
    hold(ledger)
    reservation = reserve(ledger, "round-1")
    ledger.commit(reservation, release_sha256="cd" * 32)
    with pytest.raises(LedgerError, match="another hold"):
        hold(ledger, event=ROUND)
    with pytest.raises(LedgerError, match="another hold"):
        hold(ledger, dataset="lung")
    with pytest.raises(LedgerError, match="another event"):
        reserve(ledger, "round-1", event=EVALUATION)
    with pytest.raises(LedgerError, match="another release"):
        ledger.commit(reservation, release_sha256="ef" * 32)
    assert ledger.length == 3


def test_nothing_is_reserved_without_a_hold_or_after_the_end(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no hold"):
        reserve(ledger, "round-1")
    with pytest.raises(LedgerError, match="no hold"):
        ledger.settle("run-1")
    hold(ledger)
    ledger.settle("run-1")
    for step in ("round-1", "round-2"):
        with pytest.raises(LedgerError, match="settled"):
            reserve(ledger, step)
    with pytest.raises(LedgerError, match="settled"):
        hold(ledger)


def test_a_run_reserves_no_more_than_it_holds(ledger: Ledger) -> None:
    hold(ledger)
    for number in range(1, 5):
        reserve(ledger, f"round-{number}")
    with pytest.raises(LedgerError, match="pass the run's hold"):
        reserve(ledger, "round-5")
    reserve(ledger, "evaluation", event=EVALUATION)
    assert len(ledger.charged("run-1")) == 5


def test_a_commit_needs_what_reserve_made(ledger: Ledger) -> None:
    hold(ledger)
    reserve(ledger, "round-1")
    for forged in (
        Reservation("run-1", "round-2", ROUND),
        Reservation("run-2", "round-1", ROUND),
        Reservation("run-1", "round-1", EVALUATION),
    ):
        with pytest.raises(LedgerError, match="needs the reservation"):
            ledger.commit(forged, release_sha256="cd" * 32)
    assert ledger.committed("run-1", "round-1") is None


# --- the filter ---------------------------------------------------------------------------------


def test_holds_are_refused_before_the_limit_is_passed(ledger: Ledger) -> None:
    held = 0
    while ledger.fits("heart", RUN, BUDGET):
        hold(ledger, f"run-{held}")
        held += 1
    with pytest.raises(BudgetExhaustedError) as caught:
        hold(ledger, "one-too-many")
    together = total([renyi_curve(RUN)] * held)
    assert together.epsilon(BUDGET.delta) <= 8.0
    assert (together + renyi_curve(RUN)).epsilon(BUDGET.delta) > 8.0
    assert caught.value.left == pytest.approx(8.0 - together.epsilon(BUDGET.delta))
    # Curves add more slowly than epsilons: that is why they are what is kept.
    assert held > 8.0 / renyi_curve(RUN).epsilon(BUDGET.delta)


def test_two_runs_may_hold_at_once_but_not_the_same_budget_twice(ledger: Ledger) -> None:
    large = Gaussian(0.9)
    assert renyi_curve(large).epsilon(BUDGET.delta) < 8.0
    hold(ledger, "run-1", event=large)
    with pytest.raises(BudgetExhaustedError):
        hold(ledger, "run-2", event=large)
    ledger.settle("run-1")
    hold(ledger, "run-2", event=large)
    # Had the first one spent it, settling would not have helped.
    reserve(ledger, "evaluation", run_id="run-2", event=large)
    ledger.settle("run-2")
    with pytest.raises(BudgetExhaustedError):
        hold(ledger, "run-3", event=large)


def test_data_sets_have_budgets_of_their_own(ledger: Ledger) -> None:
    hold(ledger, "run-1", event=Gaussian(0.9))
    hold(ledger, "run-2", dataset="lung", event=Gaussian(0.9))
    assert ledger.datasets() == ("heart", "lung")
    assert ledger.balance("heart", BUDGET) == ledger.balance("lung", BUDGET)


def test_a_budget_that_was_lowered_is_kept_by_runs_that_hold_more(ledger: Ledger) -> None:
    hold(ledger)
    reserve(ledger, "round-1")
    spent = ledger.balance("heart", BUDGET).spent
    lowered = Guarantee(spent * 1.2, BUDGET.delta)
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve("run-1", "round-2", ROUND, budget=lowered)
    # What is paid already may still be made, or made again after a crash.
    ledger.reserve("run-1", "round-1", ROUND, budget=lowered)
    assert ledger.balance("heart", lowered).left == 0.0


# --- threads and processes ----------------------------------------------------------------------


def in_threads(work: Callable[[int], None], count: int) -> list[BaseException]:
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def guarded(number: int) -> None:
        start.wait()
        try:
            work(number)
        except (BudgetExhaustedError, LedgerError) as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return errors


def test_threads_that_race_for_the_last_budget_do_not_both_get_it(ledger: Ledger) -> None:
    errors = in_threads(lambda n: hold(ledger, f"run-{n}", event=Gaussian(0.9)), 8)
    assert len(errors) == 7
    assert ledger.balance("heart", BUDGET).held <= 8.0


def test_threads_that_race_for_one_step_pay_once(ledger: Ledger) -> None:
    hold(ledger)
    assert in_threads(lambda _: void(reserve(ledger, "round-1")), 8) == []
    assert ledger.charged("run-1") == (ROUND,)
    assert len(in_threads(lambda n: void(reserve(ledger, f"round-{n + 2}")), 8)) == 5
    assert ledger.verify() == ledger.length == 5


def void(_: object) -> None:
    return None


def test_a_second_process_is_kept_out_until_the_first_ends(store: Location, ledger: Ledger) -> None:
    hold(ledger)
    code = (
        "import sys, datetime as dt\nfrom pathlib import Path\nimport sqlalchemy as sa\n"
        "from sordino_client.ledger import Ledger, read_entries\n"
        "store = sa.make_url(sys.argv[1]) if '://' in sys.argv[1] else Path(sys.argv[1])\n"
        "print(len(read_entries(store)))\n"
        "Ledger(store, now=lambda: dt.datetime.now(dt.UTC))\n"
    )
    place = str(store) if isinstance(store, Path) else store.render_as_string()
    done = subprocess.run(
        [sys.executable, "-c", code, place], capture_output=True, text=True, check=False
    )
    # Reading goes on beside the writer; writing does not.
    assert done.stdout.strip() == "1"
    assert "another process has this ledger open" in done.stderr
    with pytest.raises(IntegrityError, match="another process"):
        Ledger(store, now=now)
    ledger.close()
    again = Ledger(store, now=now)
    assert again.planned("run-1") == RUN
    again.close()
