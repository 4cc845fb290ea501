from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import JOB, SCHEMA, Federation, make_job, make_signer
from one_site import POLICY
from unruly import Change, CrashError, asked, away_for, changing, dying_at, held, rounds_of

from sordino_protocols.errors import UnreachableError
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluation,
    Message,
    Receipt,
    Refusal,
    RoundPlan,
    Settle,
    Update,
)
from sordino_protocols.rounds import RunState
from sordino_server.coordinator import MOST_ATTEMPTS
from sordino_server.questions import RunFailedError
from sordino_server.runs import EVALUATION, STATEMENT
from sordino_server.statement import EvaluationFacts, Statement

ALL = JOB.replace("quorum = 2", "quorum = 3")


# ------------------------------------------------------------------ sites that misbehave


def a_huge_update(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, vector=np.full_like(message.vector, 1e30))


def a_nan(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, vector=np.full_like(message.vector, np.nan))


def one_infinity(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, vector=np.append(message.vector[:-1], np.float32(-np.inf)))


def a_longer_update(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, vector=np.append(message.vector, np.float32(0)))


def an_empty_update(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, vector=message.vector[:0])


def another_round(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, round=message.round + 1)


def another_job(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, job_digest="f" * 64)


@pytest.mark.parametrize(
    ("change", "rejection"),
    [
        (a_huge_update, "norm_exceeded"),
        (a_nan, "nonfinite"),
        (one_infinity, "nonfinite"),
        (a_longer_update, "bad_shape"),
        (an_empty_update, "bad_shape"),
        (another_round, "malformed"),
        (another_job, "malformed"),
    ],
)
def test_a_poisoned_update_is_rejected_and_the_run_goes_on(
    federation: Federation, change: Change, rejection: str
) -> None:
    run = federation.submit()
    grid = federation.grid({"c": changing(federation, "c", Update, change)})
    federation.coordinator(run, grid).execute()
    assert run.state() is RunState.DONE
    for event in rounds_of(run):
        assert event["participants"] == ["a", "b"]
        assert event["rejections"] == {"c": rejection}
    assert np.abs(run.model()).max() < 100


def test_the_same_site_unpoisoned_is_believed(federation: Federation) -> None:
    run = federation.submit()
    grid = federation.grid({"c": changing(federation, "c", Update, lambda message: message)})
    federation.coordinator(run, grid).execute()
    assert all(event["participants"] == ["a", "b", "c"] for event in rounds_of(run))


@pytest.mark.parametrize("value", [1e30, -1e6])
def test_a_poisoned_evaluation_does_not_count(federation: Federation, value: float) -> None:
    def poison(message: Message) -> Message:
        assert isinstance(message, Evaluation)
        return replace(message, histogram=np.full_like(message.histogram, value))

    run = federation.submit()
    grid = federation.grid({"c": changing(federation, "c", Evaluation, poison)})
    federation.coordinator(run, grid).execute()
    assert run.read(EVALUATION, EvaluationFacts).sites == ("a", "b")


@pytest.mark.parametrize("field", ["order_of_magnitude", "feature_count"])
@pytest.mark.parametrize("value", [0, -1, 10**400])
def test_a_declaration_that_cannot_be_takes_no_part(
    federation: Federation, field: str, value: int
) -> None:
    def boast(message: Message) -> Message:
        assert isinstance(message, Admission)
        if field == "feature_count":
            return replace(message, feature_count=value)
        return replace(message, order_of_magnitude=value)

    run = federation.submit()
    grid = federation.grid({"c": changing(federation, "c", Admission, boast)})
    federation.coordinator(run, grid).execute()
    assert set(run.read(STATEMENT, Statement).receipts) == {"a", "b"}
    # It had said yes, so it was told in the end.
    assert held(federation) == 0


def test_a_receipt_for_another_job_does_not_count(federation: Federation) -> None:
    def lie(message: Message) -> Message:
        assert isinstance(message, Receipt)
        return replace(message, job_digest="f" * 64)

    run = federation.submit()
    grid = federation.grid({"c": changing(federation, "c", Receipt, lie)})
    federation.coordinator(run, grid).execute()
    assert set(run.read(STATEMENT, Statement).receipts) == {"a", "b"}
    assert list(run.events())[-1]["unsettled"] == {"c": "malformed"}


def test_sites_with_other_columns_cannot_train_together(federation: Federation) -> None:
    other = federation.sites["c"]
    other.schema = SCHEMA.replace("columns.pulse", "columns.weight")
    other.open()
    run = federation.submit()
    with pytest.raises(RunFailedError, match=r"different columns.*: a, b / c"):
        federation.coordinator(run).execute()
    assert held(federation) == 0


# ------------------------------------------------------------------ sites that do not take part


def test_below_the_quorum_the_run_fails_and_says_why_of_each_site(tmp_path: Path) -> None:
    federation = Federation(tmp_path, ("a", "b", "c"))
    for name, policy in (
        ("b", None),
        ("c", POLICY.replace("max_epsilon = 4.0", "max_epsilon = 1.0")),
    ):
        federation.sites[name].policy = policy
        federation.sites[name].open()
    run = federation.submit()
    with pytest.raises(RunFailedError):
        federation.coordinator(run).execute()
    assert run.state() is RunState.FAILED
    reason = str(list(run.events())[-1]["reason"])
    assert "1 of 3 sites answered Admit" in reason
    assert "b: no_policy" in reason
    assert "c: forbidden_by_policy" in reason
    # Site a had said yes: what it held is free again, and nothing was spent.
    assert (federation.sites["a"].held, federation.sites["a"].spent) == (0, 0)
    assert federation.sites["a"].ledger.length == 2
    federation.close()


def test_a_quorum_that_is_lost_in_mid_run_gives_back_what_was_held(federation: Federation) -> None:
    run = federation.submit(make_job(ALL))

    def from_round_two(message: Message) -> Message:
        return (
            a_huge_update(message) if isinstance(message, Update) and message.round > 1 else message
        )

    grid = federation.grid({"c": changing(federation, "c", Update, from_round_two)})
    with pytest.raises(
        RunFailedError, match="c: norm_exceeded, it is longer than clipping and noise"
    ):
        federation.coordinator(run, grid).execute()
    assert held(federation) == 0
    # The first round and the second were paid for, and stay paid for.
    assert {len(site.ledger.charged(run.run_id)) for site in federation.sites.values()} == {2}


def test_a_run_that_failed_says_who_may_hold_budget_still(federation: Federation) -> None:
    run = federation.submit(
        make_job(ALL.replace("deadline_seconds = 60", "deadline_seconds = 0.2"))
    )
    gone: list[bytes] = []

    def answer(envelope: bytes) -> bytes | None:
        gone.append(envelope)
        return federation.sites["c"].answer(envelope) if len(gone) == 1 else b""

    with pytest.raises(RunFailedError):
        federation.coordinator(run, federation.grid({"c": answer})).execute()
    assert list(run.events())[-1]["unsettled"] == {"c": "malformed"}
    assert federation.sites["c"].held > 0


def test_a_site_that_missed_admission_is_not_in_the_run_and_lets_go_at_its_end(
    federation: Federation,
) -> None:
    # It says yes, and the server does not hear it.
    def deaf(envelope: bytes) -> bytes:
        reply = federation.sites["c"].answer(envelope)
        return b"" if isinstance(asked(federation, envelope), Admit) else reply

    run = federation.submit()
    federation.coordinator(run, federation.grid({"c": deaf})).execute()
    statement = run.read(STATEMENT, Statement)
    assert set(statement.admissions) == set(statement.receipts) == {"a", "b"}
    assert federation.sites["c"].spent == 0
    assert federation.sites["c"].held == 0


def test_a_missing_receipt_is_visible_and_does_not_stop_the_run(federation: Federation) -> None:
    run = federation.submit()
    grid = federation.grid({"c": away_for(federation, "c", Settle)})
    federation.coordinator(run, grid).execute()
    assert run.state() is RunState.DONE
    statement = run.read(STATEMENT, Statement)
    assert set(statement.admissions) - set(statement.receipts) == {"c"}
    assert list(run.events())[-1]["unsettled"] == {"c": "unreachable"}


def test_a_site_that_comes_back_between_rounds_joins_again(federation: Federation) -> None:
    run = federation.submit()

    def away_in_round_two(envelope: bytes) -> bytes:
        message = asked(federation, envelope)
        if isinstance(message, RoundPlan) and message.round == 2:
            raise UnreachableError("away")
        return federation.sites["c"].answer(envelope)

    federation.coordinator(run, federation.grid({"c": away_in_round_two})).execute()
    assert [len(list(each["participants"])) for each in rounds_of(run)] == [3, 2, 3]  # type: ignore[call-overload]
    assert rounds_of(run)[1]["rejections"] == {"c": "unreachable"}


def test_a_quorum_larger_than_the_federation_fails_at_once(federation: Federation) -> None:
    run = federation.submit(make_job(JOB.replace("quorum = 2", "quorum = 4")))
    with pytest.raises(RunFailedError, match="3 of the job's sites are enrolled"):
        federation.coordinator(run).execute()
    assert all(site.requests == [] for site in federation.sites.values())


def test_a_job_of_a_rival_is_refused_by_every_site(federation: Federation) -> None:
    federation.submitter = make_signer("rival")
    run = federation.submit()
    with pytest.raises(RunFailedError, match=f"a: {Refusal.UNAUTHENTICATED}"):
        federation.coordinator(run).execute()
    assert all(site.ledger.length == 0 for site in federation.sites.values())


def test_a_run_that_gets_no_further_is_wound_up(federation: Federation) -> None:
    run = federation.submit()
    grid = federation.grid({"c": dying_at(federation, "c", RoundPlan, after=False)})
    with pytest.raises(CrashError):
        federation.coordinator(run, grid).execute()
    assert held(federation) > 0
    for _ in range(MOST_ATTEMPTS + 1):
        run.record("attempt")
    with pytest.raises(RunFailedError, match="again and again"):
        federation.coordinator(run).execute()
    assert run.state() is RunState.FAILED
    assert held(federation) == 0
