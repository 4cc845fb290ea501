import datetime as dt
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from one_site import make_job

from sordino_client.approvals import Approvals, ApprovalTerms
from sordino_client.refusals import RefusedError
from sordino_protocols.approval import (
    Approval,
    ApprovalDecision,
    read_approval,
    show_approval,
    sign_approval,
    verify_approval,
)
from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    IntegrityError,
    NotFoundError,
)
from sordino_protocols.job import SignedJob, sign_job
from sordino_protocols.messages import Refusal
from sordino_protocols.signing import Signer, TrustStore

START = dt.datetime(2026, 5, 4, 8, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
PEOPLE = {
    name: Signer(name, Ed25519PrivateKey.generate()) for name in ("alice", "bob", "carol", "dave")
}
SUBMITTER = Signer("scientist", Ed25519PrivateKey.generate())
EVERYBODY = TrustStore({name: each.key.public_key() for name, each in PEOPLE.items()})
TERMS = ApprovalTerms(
    policy_sha256="1" * 64,
    rule="policy.toml:9 datasets.heart.rules[0]",
    needed=2,
    approvers=("alice", "bob", "carol"),
    expires_after=24 * HOUR,
)
RUN = "run-1"


def signed(nonce: str = "0" * 32) -> SignedJob:
    return sign_job(make_job(), SUBMITTER, purpose="train", nonce=nonce)


@dataclass
class Desk:
    """Approvals of one site, with a clock to turn; `restart` forgets all that is not on disk."""

    directory: Path
    now: dt.datetime = START
    trust: TrustStore = EVERYBODY
    approvals: Approvals = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.approvals = Approvals(self.directory, site="cleveland", now=lambda: self.now)

    def ask(self, terms: ApprovalTerms = TERMS) -> None:
        self.approvals.ask(RUN, signed(), terms)

    def say(self, name: str, decision: ApprovalDecision = "approve") -> Approval:
        subject = self.approvals.request(RUN).subject
        approval = sign_approval(subject, decision, PEOPLE[name], at=self.now)
        self.approvals.decide(approval, self.trust, reason="seen")
        return approval

    @property
    def state(self) -> str:
        return self.approvals.standing(RUN, self.trust).state

    @property
    def counted(self) -> list[str]:
        return [each.approver for each in self.approvals.standing(RUN, self.trust).approvals]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path / "approvals")
    made.ask()
    return made


def test_a_run_waits_until_enough_different_people_said_yes(desk: Desk) -> None:
    assert desk.state == "waiting"
    desk.say("alice")
    desk.now += HOUR
    desk.say("alice")
    assert desk.state == "waiting"
    desk.say("bob")
    assert (desk.state, desk.counted) == ("approved", ["alice", "bob"])


def test_somebody_who_is_listed_twice_counts_once(desk: Desk) -> None:
    desk.ask(replace(TERMS, approvers=("alice", "alice")))
    desk.say("alice")
    assert (desk.state, desk.counted) == ("waiting", ["alice"])


def test_a_no_is_final(desk: Desk) -> None:
    desk.say("alice")
    desk.say("bob")
    desk.say("carol", "reject")
    assert desk.state == "rejected"
    with pytest.raises(InputError, match="a no is final"):
        desk.say("carol")
    # Neither another policy nor the loss of the key of whoever said it undoes a no.
    desk.ask(replace(TERMS, policy_sha256="2" * 64))
    desk.trust = TrustStore({"alice": EVERYBODY.keys["alice"]})
    desk.restart()
    assert desk.state == "rejected"


def test_everything_is_there_after_a_restart(desk: Desk) -> None:
    desk.say("alice")
    desk.restart()
    desk.say("bob")
    desk.restart()
    assert (desk.state, desk.counted) == ("approved", ["alice", "bob"])
    assert desk.approvals.request(RUN).job == make_job()
    assert desk.approvals.decisions(RUN)[0].reason == "seen"


def test_a_yes_expires_with_what_it_answers(desk: Desk) -> None:
    desk.say("alice")
    desk.say("bob")
    desk.now = START + 24 * HOUR - dt.timedelta(seconds=1)
    assert desk.state == "approved"
    desk.now = START + 24 * HOUR
    assert desk.state == "expired"
    with pytest.raises(InputError, match="too late"):
        desk.say("carol")
    # To ask again, under another policy too, is no new beginning.
    desk.ask(replace(TERMS, policy_sha256="2" * 64))
    assert desk.state == "expired"


def test_what_was_said_under_another_policy_does_not_count(desk: Desk) -> None:
    old = desk.say("alice")
    desk.say("bob")
    desk.ask(replace(TERMS, policy_sha256="2" * 64))
    assert (desk.state, desk.counted) == ("waiting", [])
    with pytest.raises(InputError, match="another policy"):
        desk.approvals.decide(old, EVERYBODY, reason="")
    desk.say("alice")
    assert desk.counted == ["alice"]


def test_only_those_who_are_asked_and_trusted_can_say_anything(desk: Desk) -> None:
    with pytest.raises(InputError, match="'dave' is not asked"):
        desk.say("dave")
    desk.trust = TrustStore({"bob": EVERYBODY.keys["bob"]})
    with pytest.raises(AuthenticationError, match="nobody called 'alice'"):
        desk.say("alice")
    impostor = Signer("bob", Ed25519PrivateKey.generate())
    subject = desk.approvals.request(RUN).subject
    forged = sign_approval(subject, "approve", impostor, at=desk.now)
    with pytest.raises(AuthenticationError, match="not 'bob'"):
        desk.approvals.decide(forged, desk.trust, reason="")
    assert desk.counted == []


def test_where_nobody_is_named_everybody_with_a_key_may(desk: Desk) -> None:
    desk.ask(replace(TERMS, approvers=()))
    desk.say("dave")
    assert desk.counted == ["dave"]


def test_a_yes_ceases_to_count_when_the_key_is_taken_away(desk: Desk) -> None:
    desk.say("alice")
    desk.say("bob")
    desk.trust = TrustStore({"bob": EVERYBODY.keys["bob"]})
    assert (desk.state, desk.counted) == ("waiting", ["bob"])


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("run_id", "run-2"),
        ("site", "va"),
        ("job_digest", "2" * 64),
        ("policy_sha256", "2" * 64),
    ],
)
def test_a_signature_is_good_for_its_site_run_job_and_policy_alone(
    desk: Desk, field_name: str, value: str
) -> None:
    approval = desk.say("alice")
    moved = replace(approval, subject=replace(approval.subject, **{field_name: value}))
    with pytest.raises(AuthenticationError):
        verify_approval(moved, EVERYBODY)
    with pytest.raises((NotFoundError, AuthenticationError, InputError)):
        desk.approvals.decide(moved, EVERYBODY, reason="")


@pytest.mark.parametrize(
    "change", [{"decision": "reject"}, {"at": "2026-05-04T09:00:00+00:00"}, {"approver": "bob"}]
)
def test_no_part_of_a_decision_can_be_changed(desk: Desk, change: dict[str, str]) -> None:
    approval = desk.say("alice")
    raw = {**show_approval(approval), **change}
    with pytest.raises(AuthenticationError):
        desk.approvals.decide(read_approval(raw, approval.subject), EVERYBODY, reason="")
    assert desk.counted == ["alice"]


@pytest.mark.parametrize("shift", [-HOUR, HOUR])
def test_a_decision_of_another_time_does_not_count(desk: Desk, shift: dt.timedelta) -> None:
    subject = desk.approvals.request(RUN).subject
    strange = sign_approval(subject, "approve", PEOPLE["alice"], at=desk.now + shift)
    with pytest.raises(InputError, match="check the clock"):
        desk.approvals.decide(strange, EVERYBODY, reason="")


def test_a_run_and_a_signature_wait_for_one_thing_only(desk: Desk) -> None:
    with pytest.raises(RefusedError) as other_job:
        desk.approvals.ask(RUN, signed("1" * 32), TERMS)
    with pytest.raises(RefusedError) as other_run:
        desk.approvals.ask("run-2", signed(), TERMS)
    desk.restart()
    with pytest.raises(RefusedError) as later:
        desk.approvals.ask("run-2", signed(), TERMS)
    refused = {each.value.refusal for each in (other_job, other_run, later)}
    assert refused == {Refusal.CHANGED_REPLAY}


def test_a_reason_is_one_short_line(desk: Desk) -> None:
    subject = desk.approvals.request(RUN).subject
    approval = sign_approval(subject, "approve", PEOPLE["alice"], at=desk.now)
    for reason in ("x" * 501, "one\ntwo", "\x1b[2J"):
        with pytest.raises(InputError, match="a reason is one line"):
            desk.approvals.decide(approval, EVERYBODY, reason=reason)


def test_a_yes_that_somebody_wrote_into_the_directory_does_not_count(desk: Desk) -> None:
    desk.say("alice")
    written = desk.directory / RUN / "by-alice.json"
    (desk.directory / RUN / "by-bob.json").write_text(
        written.read_text().replace('"alice"', '"bob"')
    )
    desk.restart()
    assert (desk.state, desk.counted) == ("waiting", ["alice"])


@pytest.mark.parametrize("name", ["request.json", "by-alice.json"])
def test_a_file_that_cannot_be_read_stops_the_site(desk: Desk, name: str) -> None:
    desk.say("alice")
    path = desk.directory / RUN / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="cannot be read"):
        desk.restart()


def test_nobody_can_decide_about_what_was_never_asked(desk: Desk) -> None:
    with pytest.raises(NotFoundError):
        desk.approvals.standing("run-9", EVERYBODY)


class Interleavings(RuleBasedStateMachine):
    """Asking, deciding, changing policies and keys, time passing and crashes, in any order.

    `book` is what people did, kept beside; what the directory says must follow from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.desk = Desk(Path(self._folder.name))
        self.policy = "1" * 64
        self.desk.ask(self.terms)
        self.yes: set[tuple[str, str]] = set()
        self.has_no = False

    def teardown(self) -> None:
        self._folder.cleanup()

    @property
    def terms(self) -> ApprovalTerms:
        return replace(TERMS, policy_sha256=self.policy)

    @rule(name=st.sampled_from(sorted(PEOPLE)), decision=st.sampled_from(["approve", "reject"]))
    def somebody_decides(self, name: str, decision: ApprovalDecision) -> None:
        try:
            self.desk.say(name, decision)
        except (InputError, AuthenticationError):
            return
        self.has_no |= decision == "reject"
        if decision == "approve":
            self.yes.add((name, self.policy))

    @rule(digit=st.sampled_from("12"))
    def the_policy_changes(self, digit: str) -> None:
        self.policy = digit * 64
        self.desk.ask(self.terms)

    @rule(names=st.sets(st.sampled_from(sorted(PEOPLE))))
    def keys_change(self, names: set[str]) -> None:
        self.desk.trust = TrustStore({name: EVERYBODY.keys[name] for name in names})

    @rule(hours=st.integers(1, 9))
    def time_passes(self, hours: int) -> None:
        self.desk.now += hours * HOUR

    @rule()
    def the_vault_dies(self) -> None:
        self.desk.restart()

    @invariant()
    def nobody_is_let_in_without_enough_people(self) -> None:
        said = {name for name, policy in self.yes if policy == self.policy}
        trusted = said & set(self.desk.trust.keys) & set(TERMS.approvers)
        assert set(self.desk.counted) <= trusted
        is_over = self.desk.now >= START + 24 * HOUR
        if self.desk.state == "approved":
            assert len(trusted) >= TERMS.needed
            assert not self.has_no
            assert not is_over
        if self.has_no:
            assert self.desk.state == "rejected"


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
