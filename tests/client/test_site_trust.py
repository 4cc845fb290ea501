"""What a site believes, and from whom: replays, forks and downgrades, each by name."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from one_site import (
    JOB,
    MOMENTS_JOB,
    OneSite,
    evaluate,
    kinds,
    make_job,
    measure,
    refusal,
    round_plan,
    settle,
    sign,
)

from sordino_protocols.job import SignedJob, sign_job
from sordino_protocols.messages import (
    OLDEST_WIRE_VERSION,
    WIRE_VERSION,
    Admission,
    Admit,
    Evaluation,
    Inquire,
    Message,
    Quote,
    Receipt,
    Refusal,
    RoundPlan,
    Update,
)
from sordino_protocols.signing import Signer, canonical_json
from sordino_protocols.wire import seal

OTHER = make_job(JOB.replace("learning_rate = 2.0", "learning_rate = 1.0"))
SIGNED_PREFIX = b"sordino/wire/%d\n"


def stranger(name: str) -> Signer:
    return Signer(name, Ed25519PrivateKey.generate())


def raw_job(site: OneSite, body: bytes) -> SignedJob:
    """Bytes that the submitter really signed, whatever they are."""
    nonce = "7" * 32
    message = f"sordino/job/1\ntrain\n{nonce}\n".encode() + body
    return SignedJob(body, "scientist", site.submitter.sign(message), "train", nonce)


def reworded(site: OneSite, **changes: object) -> bytes:
    """A round whose header says something else, signed anew by the server itself."""
    envelope = site.seal(round_plan())
    length = struct.unpack_from(">4sBI", envelope)[2]
    start = struct.calcsize(">4sBI")
    header = json.loads(envelope[start : start + length])
    header["fields"] |= changes
    body = canonical_json(header)
    payload = envelope[start + length : -64]
    signature = site.server.sign(SIGNED_PREFIX % WIRE_VERSION + body)
    return struct.pack(">4sBI", b"SRDN", WIRE_VERSION, len(body)) + body + payload + signature


# ------------------------------------------------------------------ who may say what


def test_a_job_counts_by_its_submitters_signature_over_canonical_bytes(site: OneSite) -> None:
    signed = site.admit().job
    spaced = json.dumps(json.loads(signed.body), sort_keys=True).encode()
    cases = {
        "nobody trusts the signer": sign_job(
            make_job(), stranger("mallory"), purpose="train", nonce="1" * 32
        ),
        "another's name": sign_job(
            make_job(), stranger("scientist"), purpose="train", nonce="1" * 32
        ),
        "other bytes": replace(signed, body=OTHER.canonical()),
        "another purpose": replace(signed, purpose="price"),
        "another nonce": replace(signed, nonce="2" * 32),
    }
    for what, job in cases.items():
        assert refusal(site.ask(Admit("run-1", job))) is Refusal.UNAUTHENTICATED, what
    # Signed by the right key, and still no job: there is one spelling only.
    assert refusal(site.ask(Admit("run-1", raw_job(site, spaced)))) is Refusal.MALFORMED
    assert kinds(site) == []
    # What was changed was the reason.
    assert isinstance(site.ask(Admit("run-1", signed)), Admission)


def test_a_message_counts_by_the_servers_signature(site: OneSite) -> None:
    site.ask(site.admit())
    for signer in (stranger("server"), stranger("mallory"), site.submitter):
        answer = site.read(site.site.answer(seal(round_plan(), signer)))
        assert refusal(answer) is Refusal.UNAUTHENTICATED
    assert kinds(site) == ["hold"]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("run_id", "run-2", Refusal.UNAUTHENTICATED),
        ("round", 2, Refusal.UNAUTHENTICATED),
        ("job_digest", OTHER.digest(), Refusal.UNAUTHENTICATED),
    ],
)
def test_a_rounds_signature_covers_run_round_and_job(
    site: OneSite, field: str, value: object, expected: Refusal
) -> None:
    site.ask(site.admit())
    envelope = reworded(site)
    old = canonical_json(getattr(round_plan(), field))
    new = canonical_json(value)
    name = canonical_json(field) + b":"
    changed = envelope.replace(name + old, name + new)
    assert len(changed) == len(envelope) != 0
    assert changed != envelope
    assert refusal(site.read(site.site.answer(changed))) is expected
    assert isinstance(site.read(site.site.answer(envelope)), Update)


def test_a_rounds_weights_are_the_ones_that_were_signed(site: OneSite) -> None:
    site.ask(site.admit())
    envelope = bytearray(site.seal(round_plan(value=1.0)))
    envelope[-70] ^= 1
    assert refusal(site.read(site.site.answer(bytes(envelope)))) is Refusal.MALFORMED


# ------------------------------------------------------------------ replays


def test_the_same_request_gets_the_same_bytes_and_costs_once(site: OneSite) -> None:
    site.ask(site.admit())
    for request in (round_plan(), evaluate()):
        envelope = site.seal(request)
        first = site.site.answer(envelope)
        site.open()
        assert site.site.answer(envelope) == first
    assert kinds(site) == ["hold", *2 * ["reserve", "commit"]]


def test_a_signature_is_good_for_one_run(site: OneSite) -> None:
    site.ask(site.admit())
    again = Admit("run-2", site.admit().job)
    assert refusal(site.ask(again)) is Refusal.CHANGED_REPLAY
    site.ask(settle())
    site.open()
    assert refusal(site.ask(again)) is Refusal.CHANGED_REPLAY


def test_a_signature_to_price_a_job_runs_nothing(site: OneSite) -> None:
    priced = sign(site, make_job(), purpose="price")
    assert isinstance(site.ask(Inquire("price-1", priced)), Quote)
    assert refusal(site.ask(Admit("run-1", priced))) is Refusal.UNAUTHENTICATED


# ------------------------------------------------------------------ forks


def test_one_round_has_one_plan(site: OneSite) -> None:
    site.ask(site.admit())
    assert isinstance(site.ask(round_plan(value=0.0)), Update)
    assert refusal(site.ask(round_plan(value=1.0))) is Refusal.CHANGED_REPLAY
    assert isinstance(site.ask(evaluate(value=0.0)), Evaluation)
    assert refusal(site.ask(evaluate(value=1.0))) is Refusal.CHANGED_REPLAY
    assert kinds(site) == ["hold", *2 * ["reserve", "commit"]]


def test_one_run_has_one_job(site: OneSite) -> None:
    site.ask(site.admit())
    other: tuple[Message, ...] = (
        site.admit(job=OTHER),
        round_plan(job=OTHER),
        evaluate(job=OTHER),
        settle(job=OTHER),
    )
    assert {refusal(site.ask(each)) for each in other} == {Refusal.CHANGED_REPLAY}


def test_a_run_goes_forward_only(site: OneSite) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    # A round may be left out: its deadline passed, and the others went on.
    assert isinstance(site.ask(round_plan(2, job=job)), Update)
    back: tuple[Message, ...] = (round_plan(1, job=job), measure(job=job))
    assert {refusal(site.ask(each)) for each in back} == {Refusal.OUT_OF_ORDER}
    assert isinstance(site.ask(evaluate(job=job)), Evaluation)
    assert refusal(site.ask(round_plan(3, job=job))) is Refusal.OUT_OF_ORDER
    # What was made before is still there for who missed it.
    assert isinstance(site.ask(round_plan(2, job=job)), Update)
    assert kinds(site) == ["hold", *2 * ["reserve", "commit"]]


def test_a_round_that_was_paid_for_is_made_after_a_crash(site: OneSite) -> None:
    site.ask(site.admit())
    event = make_job().plan.require_training().round_event
    budget = site.site.rules.policy
    assert budget is not None
    guarantee = budget.budget("heart")
    assert guarantee is not None
    site.ledger.reserve("run-1", "round-1", event, budget=guarantee)
    site.ask(round_plan(2))
    assert isinstance(site.ask(round_plan(1)), Update)


# ------------------------------------------------------------------ downgrades


def test_a_wire_too_old_or_too_new_is_refused_however_it_is_signed(site: OneSite) -> None:
    envelope = site.seal(round_plan())
    length = struct.unpack_from(">4sBI", envelope)[2]
    start = struct.calcsize(">4sBI")
    header, payload = envelope[start : start + length], envelope[start + length : -64]
    site.ask(site.admit())
    for version in (0, OLDEST_WIRE_VERSION - 1, WIRE_VERSION + 1):
        signature = site.server.sign(SIGNED_PREFIX % version + header)
        frame = struct.pack(">4sBI", b"SRDN", version, length)
        answer = site.read(site.site.answer(frame + header + payload + signature))
        assert refusal(answer) is Refusal.MALFORMED
    # A signature for an older wire is none for this one.
    old = site.server.sign(SIGNED_PREFIX % (WIRE_VERSION - 1) + header)
    answer = site.read(site.site.answer(envelope[:-64] + old))
    assert refusal(answer) is Refusal.UNAUTHENTICATED
    assert isinstance(site.ask(round_plan()), Update)


def test_a_server_that_was_not_upgraded_is_answered_in_its_version(site: OneSite) -> None:
    requests = (site.admit(), round_plan(), evaluate(), settle())
    answers = [site.site.answer(seal(each, site.server, version=2)) for each in requests]
    assert [answer[4] for answer in answers] == [2, 2, 2, 2]
    said = [type(site.read(answer)) for answer in answers]
    assert said == [Admission, Update, Evaluation, Receipt]
    broken = site.site.answer(b"SRDN\x02" + bytes(100))
    assert broken[4] == 2
    assert refusal(site.read(broken)) is Refusal.MALFORMED


def test_a_server_that_is_upgraded_in_mid_run_gets_the_bytes_that_were_paid(site: OneSite) -> None:
    site.site.answer(seal(site.admit(), site.server, version=2))
    first = site.site.answer(seal(round_plan(), site.server, version=2))
    spent = site.spent
    assert spent > 0
    assert site.site.answer(seal(round_plan(), site.server, version=3)) == first
    assert site.spent == spent


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_job_of_another_version_is_refused(site: OneSite, version: int) -> None:
    raw = {**json.loads(make_job().canonical()), "version": version}
    body = canonical_json(raw)
    assert refusal(site.ask(Admit("run-1", raw_job(site, body)))) is Refusal.MALFORMED


def test_a_field_that_this_version_does_not_know_is_no_default(site: OneSite) -> None:
    site.ask(site.admit())
    answer = site.read(site.site.answer(reworded(site, noise=0.0)))
    assert refusal(answer) is Refusal.MALFORMED


def test_a_weaker_plan_than_was_admitted_cannot_be_asked_for(site: OneSite) -> None:
    # A round names the job by digest and nothing of its plan: there is no field to weaken.
    assert set(RoundPlan.__dataclass_fields__) == {
        "run_id",
        "job_digest",
        "round",
        "weights",
        "scaling",
    }
    site.ask(site.admit())
    longer = replace(round_plan(), weights=np.zeros(15, dtype=np.float32))
    assert refusal(site.ask(longer)) is Refusal.WRONG_SHAPE
