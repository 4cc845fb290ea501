import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from one_site import (
    DATASET,
    JOB,
    NAME,
    POLICY,
    OneSite,
    evaluate,
    kinds,
    make_job,
    refusal,
    round_plan,
    settle,
)

from sordino_client.policy import load_policy
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.coins import matches
from sordino_protocols.messages import (
    Admission,
    Evaluation,
    Inquire,
    Message,
    Quote,
    Receipt,
    Refusal,
    Refused,
    Update,
)
from sordino_protocols.privacy import Composed, Guarantee

# --- a run as it should go ----------------------------------------------------------------------


def test_a_run_from_its_price_to_its_receipt(site: OneSite) -> None:
    job = make_job()
    quote = site.ask(Inquire("price-1", site.admit().job))
    assert isinstance(quote, Quote)
    assert quote.refusal is None
    assert quote.budget_left == 8.0
    assert site.ledger.length == 0

    admission = site.ask(site.admit())
    assert isinstance(admission, Admission)
    assert (admission.job_digest, admission.order_of_magnitude) == (job.digest(), 100)
    for number in (1, 2, 3):
        update = site.ask(round_plan(number))
        assert isinstance(update, Update)
        assert (update.round, update.vector.shape) == (number, (14,))
        assert np.isfinite(update.vector).all()
    evaluation = site.ask(evaluate())
    assert isinstance(evaluation, Evaluation)
    assert evaluation.histogram.shape == (20,)
    receipt = site.ask(settle())
    assert isinstance(receipt, Receipt)

    assert kinds(site) == ["hold", *["reserve", "commit"] * 4, "settle"]
    plan = job.plan
    charged = Composed(
        (*[plan.require_training().round_event] * 3, plan.require_evaluation().event)
    )
    assert receipt.epsilon_spent_pld == epsilon_by_pld(charged, 1e-5)
    assert receipt.epsilon_spent_pld == pytest.approx(receipt.epsilon_planned)
    assert receipt.epsilon_spent_pld <= 3.0
    assert quote.epsilon_pld == receipt.epsilon_planned
    assert receipt.budget_left == pytest.approx(8.0 - site.spent)
    assert len(json.loads(receipt.events_json)) == 4
    assert receipt.ledger_head.hash == site.ledger.head
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(receipt.coins), dtype=np.uint8), count=8)
    assert matches(
        admission.coins_commitment,
        [bool(bit) for bit in bits],
        salt=bytes.fromhex(receipt.coins_salt),
        run_id="run-1",
        site=NAME,
    )


def test_the_price_is_the_same_whether_or_not_the_policy_knows_the_data_set(
    site: OneSite,
) -> None:
    known = site.ask(Inquire("price-1", site.admit().job))
    site.policy = POLICY.replace("datasets.heart", "datasets.lung")
    site.open()
    unknown = site.ask(Inquire("price-1", site.admit().job))
    assert isinstance(known, Quote)
    assert isinstance(unknown, Quote)
    assert unknown.refusal is Refusal.FORBIDDEN_BY_POLICY
    assert (unknown.epsilon_pld, unknown.epsilon_rdp) == (known.epsilon_pld, known.epsilon_rdp)
    assert unknown.budget_left == 0.0


# --- paid once, made once -----------------------------------------------------------------------


def test_a_repeated_request_gets_the_same_bytes_and_costs_nothing_more(site: OneSite) -> None:
    requests: list[Message] = [site.admit(), round_plan(1), round_plan(2), evaluate(), settle()]
    sealed = [site.seal(each) for each in requests]
    first = [site.site.answer(each) for each in sealed]
    spent, length = site.spent, site.ledger.length
    assert [site.site.answer(each) for each in sealed] == first
    # After a restart too: a new process on the same directories.
    site.open()
    assert [site.site.answer(each) for each in sealed] == first
    assert (site.spent, site.ledger.length) == (spent, length)
    assert not any(isinstance(site.read(each), Refused) for each in first)


def test_two_rounds_and_two_runs_do_not_share_their_noise(site: OneSite) -> None:
    vectors = []
    for run_id in ("run-1", "run-2"):
        site.ask(site.admit(run_id))
        for number in (1, 2):
            update = site.ask(round_plan(number, run_id=run_id))
            assert isinstance(update, Update)
            vectors.append(update.vector.tobytes())
    assert len(set(vectors)) == 4


@pytest.mark.parametrize("make", [round_plan, evaluate])
def test_a_changed_repetition_is_refused(site: OneSite, make: Callable[..., Message]) -> None:
    site.ask(site.admit())
    site.ask(make())
    length = site.ledger.length
    assert refusal(site.ask(make(value=1.0))) is Refusal.CHANGED_REPLAY
    assert site.ledger.length == length
    assert not isinstance(site.ask(make()), Refused)


def test_a_run_keeps_the_job_that_it_was_admitted_with(site: OneSite) -> None:
    site.ask(site.admit())
    other = make_job(JOB.replace("rounds = 3", "rounds = 2"))
    assert refusal(site.ask(site.admit(job=other))) is Refusal.CHANGED_REPLAY
    assert refusal(site.ask(round_plan(job=other))) is Refusal.CHANGED_REPLAY
    assert refusal(site.ask(settle(job=other))) is Refusal.CHANGED_REPLAY
    assert kinds(site) == ["hold"]


def test_a_crash_between_reserving_and_storing_makes_one_release_of_one_charge(
    site: OneSite,
) -> None:
    site.ask(site.admit())
    event, budget = make_job().plan.require_training().round_event, site_budget(site)
    site.ledger.reserve("run-1", "round-1", event, budget=budget)
    spent = site.spent
    site.open()
    answer = site.ask(round_plan())
    assert isinstance(answer, Update)
    assert site.spent == spent
    assert kinds(site) == ["hold", "reserve", "commit"]


def test_a_crash_between_storing_and_committing_sends_what_was_stored(site: OneSite) -> None:
    site.ask(site.admit())
    first = site.site.answer(site.seal(round_plan()))
    # The newest entry is the commit: without it, the ledger is as the crash left it.
    site.close()
    forget_newest_entry(site.config.ledger_path)
    site.open()
    assert kinds(site) == ["hold", "reserve"]
    assert site.site.answer(site.seal(round_plan())) == first
    assert kinds(site) == ["hold", "reserve", "commit"]


def site_budget(site: OneSite) -> Guarantee:
    policy = load_policy(site.config.site.policy)
    budget = policy.budget(DATASET) if policy else None
    assert budget is not None
    return budget


def forget_newest_entry(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)")


@pytest.mark.parametrize("harm", [lambda _: b"", lambda old: old[:-1] + bytes([old[-1] ^ 1]), None])
def test_a_committed_release_that_was_lost_or_changed_is_never_made_anew(
    site: OneSite, harm: Callable[[bytes], bytes] | None
) -> None:
    site.ask(site.admit())
    site.ask(round_plan())
    stored = site.config.site.state / "outbox" / "run-1" / "round-1.release"
    if harm is None:
        stored.unlink()
    else:
        stored.write_bytes(harm(stored.read_bytes()))
    length = site.ledger.length
    assert refusal(site.ask(round_plan())) is Refusal.INTEGRITY
    assert site.ledger.length == length
