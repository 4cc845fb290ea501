import datetime as dt
import json

import pytest
from one_site import (
    ASKING,
    DATASET,
    JOB,
    POLICY,
    OneSite,
    find_canary,
    kinds,
    make_job,
    refusal,
    round_plan,
    settle,
    sign,
)
from structlog.testing import capture_logs

from sordino_client.approval_text import approval_text
from sordino_protocols.approval import ApprovalDecision, read_approval, sign_approval
from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.errors import InputError
from sordino_protocols.messages import Admission, Inquire, Quote, Receipt, Refusal

PENDING, REJECTED = Refusal.APPROVAL_PENDING, Refusal.REJECTED


@pytest.fixture
def asking(site: OneSite) -> OneSite:
    """The site, whose policy asks two of three people about every job."""
    for name in ("alice", "bob", "carol"):
        site.approver(name)
    site.policy = POLICY + ASKING
    site.open()
    return site


def say(
    site: OneSite, name: str, decision: ApprovalDecision = "approve", run_id: str = "run-1"
) -> None:
    subject = site.approvals.request(run_id).subject
    approval = sign_approval(subject, decision, site.approver(name), at=site.now)
    site.desk.decide(approval, reason=f"says {name}")


def actions(site: OneSite) -> list[tuple[str, str]]:
    return [(each.actor, each.action) for each in read_audit_log(site.config.audit_log_path)]


def test_a_run_is_let_in_by_the_same_request_once_enough_people_said_yes(asking: OneSite) -> None:
    request = asking.admit()
    assert refusal(asking.ask(request)) is PENDING
    say(asking, "alice")
    assert refusal(asking.ask(request)) is PENDING
    # Nothing is pinned, held or spent for a run that waits.
    assert refusal(asking.ask(round_plan())) is Refusal.NOT_ADMITTED
    assert kinds(asking) == []
    asking.open()
    say(asking, "bob")
    asking.open()
    assert isinstance(asking.ask(request), Admission)
    assert asking.held > 0
    assert actions(asking) == [
        ("scientist", "asked"),
        ("alice", "approved"),
        ("bob", "approved"),
        ("scientist", "admitted"),
    ]


def test_the_receipt_says_who_said_yes_and_proves_it(asking: OneSite) -> None:
    asking.ask(asking.admit())
    say(asking, "alice")
    say(asking, "carol")
    subject = asking.approvals.request("run-1").subject
    asking.ask(asking.admit())
    asking.open()
    receipt = asking.ask(settle())
    assert isinstance(receipt, Receipt)
    shown = json.loads(receipt.approvals_json)
    given = [read_approval(each, subject) for each in shown]
    assert [each.approver for each in given] == ["alice", "carol"]
    assert receipt.policy_sha256 == subject.policy_sha256
    assert receipt.job_digest == subject.job_digest
    assert [each.approval for each in asking.approvals.decisions("run-1")] == given


def test_a_no_refuses_whatever_comes_afterwards(asking: OneSite) -> None:
    asking.ask(asking.admit())
    say(asking, "alice")
    say(asking, "bob", "reject")
    assert refusal(asking.ask(asking.admit())) is REJECTED
    asking.policy = POLICY
    asking.write_policy()
    asking.reloader.reload()
    assert refusal(asking.ask(asking.admit())) is REJECTED
    # The same job, signed for another run, is another question.
    assert isinstance(asking.ask(asking.admit("run-2")), Admission)


def test_what_nobody_decided_in_time_is_rejected(asking: OneSite) -> None:
    asking.ask(asking.admit())
    say(asking, "alice")
    say(asking, "bob")
    asking.now += dt.timedelta(hours=24)
    assert refusal(asking.ask(asking.admit())) is REJECTED
    assert kinds(asking) == []


def test_a_policy_that_denies_denies_what_people_approved(asking: OneSite) -> None:
    asking.ask(asking.admit())
    say(asking, "alice")
    say(asking, "bob")
    asking.policy = POLICY.replace("max_rounds = 50", "max_rounds = 1") + ASKING
    asking.write_policy()
    asking.reloader.reload()
    assert refusal(asking.ask(asking.admit())) is Refusal.FORBIDDEN_BY_POLICY


def test_a_policy_that_changed_asks_anew(asking: OneSite) -> None:
    asking.ask(asking.admit())
    say(asking, "alice")
    say(asking, "bob")
    asking.policy = POLICY.replace("max_rounds = 50", "max_rounds = 49") + ASKING
    asking.write_policy()
    asking.reloader.reload()
    assert refusal(asking.ask(asking.admit())) is PENDING
    say(asking, "alice")
    say(asking, "bob")
    assert isinstance(asking.ask(asking.admit()), Admission)


def test_a_policy_that_ceases_to_ask_lets_in_what_waits(asking: OneSite) -> None:
    asking.ask(asking.admit())
    asking.policy = POLICY
    asking.write_policy()
    asking.reloader.reload()
    assert isinstance(asking.ask(asking.admit()), Admission)
    assert asking.runs.runs()[0].approvals == ()
    with pytest.raises(InputError, match="admitted already"):
        say(asking, "alice")


def test_nobody_is_asked_about_what_would_be_refused_anyway(asking: OneSite) -> None:
    asking.policy = POLICY.replace("epsilon = 8.0", "epsilon = 1.0") + ASKING
    asking.open()
    assert refusal(asking.ask(asking.admit())) is Refusal.BUDGET_EXHAUSTED
    assert asking.approvals.requests() == ()


def test_a_run_that_waits_waits_with_one_job_and_one_signature(asking: OneSite) -> None:
    asking.ask(asking.admit())
    other = make_job(JOB.replace("learning_rate = 2.0", "learning_rate = 1.0"))
    assert refusal(asking.ask(asking.admit(job=other))) is Refusal.CHANGED_REPLAY
    again = type(asking.admit())("run-2", asking.admit().job)
    assert refusal(asking.ask(again)) is Refusal.CHANGED_REPLAY
    # Nor does it help that the policy ceased to ask.
    asking.policy = POLICY
    asking.write_policy()
    asking.reloader.reload()
    assert refusal(asking.ask(again)) is Refusal.CHANGED_REPLAY


def test_an_inquiry_says_that_people_would_be_asked(asking: OneSite) -> None:
    quote = asking.ask(Inquire("price-1", sign(asking, make_job(), purpose="price")))
    assert isinstance(quote, Quote)
    assert (quote.needs_approval, quote.refusal) == (True, None)
    assert "rules[0]" in quote.rule
    assert asking.approvals.requests() == ()


def test_asking_again_and_again_fills_no_log(asking: OneSite) -> None:
    for _ in range(5):
        asking.ask(asking.admit())
    assert actions(asking) == [("scientist", "asked")]


def test_a_person_is_shown_what_a_decision_is_about(asking: OneSite) -> None:
    asking.ask(asking.admit())
    page = approval_text(asking.desk.shown("run-1"))
    for expected in (
        "run-1: job 'small', signed by scientist",
        "waiting; 0 of 2 said yes",
        "may decide  alice, bob, carol",
        "train a logistic model on heart, columns: all",
        "noisy sums of clipped gradients, 14 numbers each, 3 times",
        "a noisy table of 2 x",
        "the coins of 8 canaries",
        f"budget of {DATASET}: 8 for ever, 0 spent, 0 held by other runs",
        "no job of this name was approved here before",
        "nobody said anything yet",
    ):
        assert expected in page, page
    costs = asking.desk.shown("run-1")["costs"]
    assert isinstance(costs, dict)
    say(asking, "alice")
    say(asking, "bob")
    asking.ask(asking.admit())
    balance = asking.site.balances()[DATASET]
    assert costs["left_afterwards"] == pytest.approx(balance.left)


def test_a_person_is_shown_what_changed_since_the_last_yes(asking: OneSite) -> None:
    asking.ask(asking.admit())
    say(asking, "alice")
    say(asking, "bob")
    asking.ask(asking.admit())
    asking.ask(settle())
    wider = make_job(JOB.replace("clipping_norm = 0.5", "clipping_norm = 0.75"))
    asking.ask(asking.admit("run-2", wider))
    changes = asking.desk.shown("run-2")["changes"]
    assert changes == [{"key": "file.training.clipping_norm", "before": 0.5, "now": 0.75}]
    assert "file.training.clipping_norm: 0.5 -> 0.75" in approval_text(asking.desk.shown("run-2"))
    assert [each["run_id"] for each in asking.desk.listed(everything=False)] == ["run-2"]
    states = {each["run_id"]: each["state"] for each in asking.desk.listed(everything=True)}
    assert states == {"run-1": "admitted", "run-2": "waiting"}


def test_no_record_is_in_anything_that_approvers_or_logs_see(asking: OneSite) -> None:
    with capture_logs() as logs:
        asking.ask(asking.admit())
        shown = [asking.desk.shown("run-1")]
        say(asking, "alice")
        say(asking, "bob")
        asking.ask(asking.admit())
        asking.ask(round_plan())
        asking.ask(settle())
        shown.append(asking.desk.shown("run-1"))
    stored = [
        path.read_bytes()
        for place in ("approvals", "audit.log", "runs")
        for path in (
            asking.config.site.state / place,
            *(asking.config.site.state / place).rglob("*"),
        )
        if path.is_file()
    ]
    assert len(stored) >= 5
    assert not find_canary(b"".join(stored) + repr(logs).encode() + json.dumps(shown).encode())


def test_a_run_that_was_pinned_and_not_held_is_no_way_around_people(asking: OneSite) -> None:
    # What a crash between the two leaves behind, from when the policy did not ask.
    asking.runs.add("run-1", make_job(), nonce=asking.admit().job.nonce)
    asking.open()
    assert refusal(asking.ask(asking.admit())) is PENDING
    assert kinds(asking) == []


def test_a_crash_between_pin_and_hold_changes_nothing(asking: OneSite) -> None:
    asking.ask(asking.admit())
    say(asking, "alice")
    say(asking, "bob")
    consent = asking.approvals.standing("run-1", asking.site.rules.approvers).approvals
    nonce = asking.admit().job.nonce
    pinned = asking.runs.add("run-1", make_job(), nonce=nonce, approvals=consent)
    asking.open()
    answer = asking.ask(asking.admit())
    assert isinstance(answer, Admission)
    assert answer.coins_commitment == pinned.commitment("cleveland")
