import dataclasses

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from one_site import (
    JOB,
    POLICY,
    OneSite,
    evaluate,
    kinds,
    make_job,
    refusal,
    round_plan,
    settle,
    sign,
)
from seeded_noise import SeededNoise

from sordino_protocols.job import new_nonce, sign_job
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluation,
    Inquire,
    Quote,
    Receipt,
    Refusal,
    Refused,
    Update,
)
from sordino_protocols.signing import Signer
from sordino_protocols.wire import seal

MLP = JOB.replace(
    'kind = "logistic"', 'kind = "mlp"\nhidden = [16, 16, 16, 16]\nactivation = "relu"'
)


def test_an_envelope_that_is_none_is_malformed(site: OneSite) -> None:
    for envelope in (b"", b"x" * 200, site.seal(round_plan())[:-1], b"SRDN\x01" + bytes(100)):
        answer = site.read(site.site.answer(envelope))
        assert isinstance(answer, Refused)
        assert answer.run_id == ""
        assert answer.refusal in {Refusal.MALFORMED, Refusal.UNAUTHENTICATED}


def test_only_the_server_is_answered(site: OneSite) -> None:
    for signer in (
        Signer("stranger", Ed25519PrivateKey.generate()),
        Signer("server", Ed25519PrivateKey.generate()),
        site.submitter,
    ):
        answer = site.read(site.site.answer(seal(site.admit(), signer)))
        assert refusal(answer) is Refusal.UNAUTHENTICATED
    assert site.ledger.length == 0


def test_the_servers_signature_is_not_the_submitters(site: OneSite) -> None:
    for signer in (Signer("scientist", Ed25519PrivateKey.generate()), site.server):
        request = Admit("run-1", sign_job(make_job(), signer, purpose="train", nonce=new_nonce()))
        assert refusal(site.ask(request)) is Refusal.UNAUTHENTICATED
    assert site.ledger.length == 0


def test_a_run_that_was_not_admitted_gets_nothing(site: OneSite) -> None:
    for request in (round_plan(), evaluate(), settle()):
        assert refusal(site.ask(request)) is Refusal.NOT_ADMITTED
    assert site.ledger.length == 0


def test_a_sites_message_is_none_for_a_site(site: OneSite) -> None:
    assert refusal(site.ask(Refused("run-1", Refusal.INTERNAL))) is Refusal.MALFORMED


@pytest.mark.parametrize("number", [-1, 0, 4, 2**62])
def test_a_round_that_the_run_does_not_have_is_refused(site: OneSite, number: int) -> None:
    site.ask(site.admit())
    assert refusal(site.ask(round_plan(number))) is Refusal.OUT_OF_ORDER
    assert kinds(site) == ["hold"]


@pytest.mark.parametrize("size", [0, 1, 13, 15, 10_000])
def test_weights_of_another_shape_are_refused_before_anything_is_paid(
    site: OneSite, size: int
) -> None:
    site.ask(site.admit())
    weights = np.zeros(size, dtype=np.float32)
    for request in (round_plan(), evaluate()):
        changed = dataclasses.replace(request, weights=weights)
        assert refusal(site.ask(changed)) is Refusal.WRONG_SHAPE
    assert kinds(site) == ["hold"]


def test_weights_that_are_not_finite_are_refused(site: OneSite) -> None:
    site.ask(site.admit())
    for value in (np.nan, np.inf):
        answer = site.ask(round_plan(value=float(value)))
        assert refusal(answer) is Refusal.NOT_FINITE
    assert kinds(site) == ["hold"]


@pytest.mark.parametrize("text", [JOB, MLP], ids=["logistic", "mlp"])
@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1e-45])
def test_extreme_weights_get_a_release_that_is_paid_and_finite(
    site: OneSite, text: str, value: float
) -> None:
    # Weights may come from an adversary: a gradient without a finite norm contributes nothing.
    job = make_job(text)
    site.ask(site.admit(job=job))
    update = site.ask(round_plan(job=job, value=value))
    evaluation = site.ask(evaluate(job=job, value=value))
    assert isinstance(update, Update)
    assert np.isfinite(update.vector).all()
    assert isinstance(evaluation, Evaluation)
    assert np.isfinite(evaluation.histogram).all()
    assert kinds(site) == ["hold", *["reserve", "commit"] * 2]


def test_without_a_policy_nothing_is_admitted(site: OneSite) -> None:
    site.policy = None
    site.open()
    quote = site.ask(Inquire("price-1", site.admit().job))
    assert isinstance(quote, Quote)
    assert quote.refusal is Refusal.NO_POLICY
    assert refusal(site.ask(site.admit())) is Refusal.NO_POLICY
    assert site.ledger.length == 0


def test_a_job_that_the_policy_forbids_is_refused_by_its_rule(site: OneSite) -> None:
    site.policy = POLICY.replace("max_rounds = 50", "max_rounds = 2")
    site.open()
    quote = site.ask(Inquire("price-1", site.admit().job))
    assert isinstance(quote, Quote)
    assert quote.rule == "policy.toml:8 datasets.heart.max_rounds"
    assert refusal(site.ask(site.admit())) is Refusal.FORBIDDEN_BY_POLICY
    assert site.ledger.length == 0


def test_a_job_on_a_data_set_that_is_not_here_is_refused(site: OneSite) -> None:
    job = make_job(JOB.replace('dataset = "heart"', 'dataset = "lung"'))
    assert refusal(site.ask(site.admit(job=job))) is Refusal.UNKNOWN_DATASET


def test_a_job_for_other_sites_is_refused(site: OneSite) -> None:
    job = make_job(JOB + '[cohort]\nsites = ["va"]\n')
    assert refusal(site.ask(site.admit(job=job))) is Refusal.FORBIDDEN_BY_POLICY


def test_a_job_that_costs_more_than_it_declares_is_unpriceable(site: OneSite) -> None:
    weaker = make_job().model_copy(update={"training_noise_multiplier": 0.5})
    for request in (Inquire("run-1", sign(site, weaker)), Admit("run-1", sign(site, weaker))):
        assert refusal(site.ask(request)) is Refusal.UNPRICEABLE
    assert site.ledger.length == 0


def test_the_lifetime_budget_ends_admissions(site: OneSite) -> None:
    granted = 0
    while isinstance(site.ask(site.admit(f"run-{granted}")), Admission):
        granted += 1
    assert granted >= 2
    assert site.held <= 8.0
    last = f"run-{granted}"
    assert refusal(site.ask(site.admit(last))) is Refusal.BUDGET_EXHAUSTED
    quote = site.ask(Inquire("price-1", site.admit().job))
    assert isinstance(quote, Quote)
    assert (quote.refusal, quote.rule) == (
        Refusal.BUDGET_EXHAUSTED,
        "policy.toml:11 budgets.heart.epsilon",
    )
    # A run that was refused is none, and leaves nothing behind.
    assert refusal(site.ask(round_plan(run_id=last))) is Refusal.NOT_ADMITTED
    assert not (site.config.site.state / "runs" / f"{last}.json").exists()
    # What a run did not spend comes back.
    site.ask(settle(run_id="run-0"))
    assert isinstance(site.ask(site.admit(last)), Admission)


def test_after_the_end_no_round_is_made_and_those_made_are_sent_again(site: OneSite) -> None:
    site.ask(site.admit())
    first = site.site.answer(site.seal(round_plan(1)))
    receipt = site.ask(settle())
    assert isinstance(receipt, Receipt)
    spent = site.spent
    # The coins are open now: a round that is made with them open would be no test of anything.
    assert refusal(site.ask(round_plan(2))) is Refusal.OUT_OF_ORDER
    assert refusal(site.ask(evaluate())) is Refusal.OUT_OF_ORDER
    assert site.site.answer(site.seal(round_plan(1))) == first
    assert site.spent == spent
    assert receipt.epsilon_spent_pld < receipt.epsilon_planned


def test_a_run_without_rounds_costs_nothing(site: OneSite) -> None:
    site.ask(site.admit())
    receipt = site.ask(settle())
    assert isinstance(receipt, Receipt)
    assert (receipt.epsilon_spent_pld, receipt.epsilon_spent_rdp) == (0.0, 0.0)
    assert receipt.budget_left == 8.0


def test_a_policy_that_is_tightened_reaches_running_runs(site: OneSite) -> None:
    site.ask(site.admit())
    first = site.site.answer(site.seal(round_plan(1)))
    # Rules of admission, such as the number of rounds, were judged then.
    site.policy = POLICY.replace("max_rounds = 50", "max_rounds = 1")
    site.open()
    assert isinstance(site.ask(round_plan(2)), Update)
    # The budget as it is now is never passed.
    site.policy = POLICY.replace("epsilon = 8.0", f"epsilon = {site.spent * 1.01}")
    site.open()
    assert refusal(site.ask(round_plan(3))) is Refusal.BUDGET_EXHAUSTED
    # Without a table, nothing new leaves; what left is sent again.
    site.policy = "[datasets]\n"
    site.open()
    length = site.ledger.length
    assert refusal(site.ask(round_plan(3))) is Refusal.FORBIDDEN_BY_POLICY
    assert refusal(site.ask(evaluate())) is Refusal.FORBIDDEN_BY_POLICY
    assert site.site.answer(site.seal(round_plan(1))) == first
    assert site.ledger.length == length
    assert isinstance(site.ask(settle()), Receipt)


def test_noise_that_can_be_repeated_releases_nothing(site: OneSite) -> None:
    site.noise = SeededNoise(1)
    site.open()
    site.ask(site.admit())
    assert refusal(site.ask(round_plan())) is Refusal.INTERNAL
    assert refusal(site.ask(evaluate())) is Refusal.INTERNAL
    assert kinds(site) == ["hold"]


def test_a_job_signed_to_be_priced_is_not_admitted(site: OneSite) -> None:
    priced = sign(site, make_job(), purpose="price")
    assert isinstance(site.ask(Inquire("run-1", priced)), Quote)
    assert refusal(site.ask(Admit("run-1", priced))) is Refusal.UNAUTHENTICATED
    assert site.ledger.length == 0


def test_a_signature_is_good_for_one_run_whatever_restarts(site: OneSite) -> None:
    assert isinstance(site.ask(site.admit("run-1")), Admission)
    replayed = Admit("run-2", sign(site, make_job(), run_id="run-1"))
    assert refusal(site.ask(replayed)) is Refusal.CHANGED_REPLAY
    site.open()
    assert refusal(site.ask(replayed)) is Refusal.CHANGED_REPLAY
    assert isinstance(site.ask(site.admit("run-1")), Admission)
    assert kinds(site) == ["hold"]
