import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from one_site import NAME, OneSite, refusal, round_plan, settle

from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.heads import GENESIS, SignedHead, sign_head
from sordino_protocols.messages import Admission, Inquire, Recall, Recalled, Refusal, Update
from sordino_protocols.signing import Signer, load_signer


def head_of(answer: object) -> SignedHead:
    assert isinstance(answer, Admission | Update | Recalled), answer
    return answer.ledger_head


def own_key(site: OneSite) -> Signer:
    return load_signer(site.config.site.signing_key, NAME)


def everything(site: OneSite) -> list[Refusal]:
    return [
        refusal(site.ask(each))
        for each in (
            site.admit(),
            site.admit("run-2"),
            Inquire("price-1", site.admit().job),
            round_plan(),
            settle(),
        )
    ]


def test_a_ledger_that_goes_on_from_what_is_remembered_says_so(site: OneSite) -> None:
    empty = sign_head(own_key(site), length=0, hash=GENESIS)
    assert isinstance(site.ask(Recall("run-1", empty)), Recalled)
    remembered = [head_of(site.ask(site.admit())), head_of(site.ask(round_plan()))]
    for head in remembered:
        answer = site.ask(Recall("run-2", head))
        assert head_of(answer).length == site.ledger.length
        assert head_of(answer).hash == site.ledger.head
    assert site.ledger.halted is None


def test_a_ledger_that_was_put_back_stops_all_work_until_a_person_acts(site: OneSite) -> None:
    site.close()
    backup = site.directory / "backup"
    shutil.copytree(site.config.site.state, backup)
    site.open()
    site.ask(site.admit())
    remembered = head_of(site.ask(round_plan()))
    site.close()
    # The whole directory: nothing in it can show that it is old.
    shutil.rmtree(site.config.site.state)
    shutil.copytree(backup, site.config.site.state)
    site.open()
    assert refusal(site.ask(Recall("run-2", remembered))) is Refusal.INTEGRITY
    assert set(everything(site)) == {Refusal.INTEGRITY}
    site.open()
    assert set(everything(site)) == {Refusal.INTEGRITY}
    assert refusal(site.ask(Recall("run-2", remembered))) is Refusal.INTEGRITY
    status = site.site.status()
    assert f"entry {remembered.length}" in str(status["halted"])
    assert "sordino ledger recover" in str(status["help"])
    recorded = [each.action for each in read_audit_log(site.config.audit_log_path)]
    assert recorded == ["halted"]


def test_a_head_that_the_site_never_signed_stops_nothing(site: OneSite) -> None:
    forged = sign_head(Signer(NAME, Ed25519PrivateKey.generate()), length=9, hash="1" * 64)
    other = sign_head(Signer("va", own_key(site).key), length=9, hash="1" * 64)
    for head in (forged, other):
        assert refusal(site.ask(Recall("run-1", head))) is Refusal.UNAUTHENTICATED
    assert site.ledger.halted is None
    assert isinstance(site.ask(site.admit()), Admission)


@pytest.mark.parametrize("digit", ["a", "b"])
def test_another_history_of_the_same_length_is_found(site: OneSite, digit: str) -> None:
    site.ask(site.admit())
    fork = sign_head(own_key(site), length=site.ledger.length, hash=digit * 64)
    assert refusal(site.ask(Recall("run-2", fork))) is Refusal.INTEGRITY
    assert site.ledger.halted is not None
