from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from federation import make_job, make_signer, trust
from flwr.app import Message as FlowerMessage

from sordino_protocols.errors import PeerError, UnreachableError
from sordino_protocols.heads import GENESIS, SignedHead
from sordino_protocols.job import new_nonce, sign_job
from sordino_protocols.messages import (
    Admission,
    Admit,
    Message,
    Recall,
    Recalled,
    Refusal,
    Refused,
    RoundPlan,
    Update,
)
from sordino_protocols.signing import Signer
from sordino_protocols.wire import open_sealed, seal
from sordino_server.exchange import Exchange
from sordino_server.local_grid import Answerer, LocalGrid
from sordino_server.strategy import (
    ImplausibleError,
    Outcome,
    Patience,
    Rejection,
    Strategy,
)

SERVER = make_signer("server")
SITES = {name: make_signer(name) for name in ("a", "b", "c")}
RUN, DIGEST = "train-1", "d" * 64
REQUEST = RoundPlan(RUN, DIGEST, 1, np.zeros(2, dtype=np.float32))
PATIENT = Patience(quorum=2, deadline_seconds=1000, grace_seconds=1000)


class Clock:
    """Time that passes only when somebody looks: a fixed step a look."""

    def __init__(self, step: float = 1.0) -> None:
        self.now, self._step = 0.0, step

    def __call__(self) -> float:
        self.now += self._step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Asked:
    """A site that answers by a script, one line a request; the last line repeats."""

    script: list[Callable[[bytes], bytes | None]]
    envelopes: list[bytes] = field(default_factory=list)

    def __call__(self, envelope: bytes) -> bytes | None:
        self.envelopes.append(envelope)
        return self.script[min(len(self.envelopes), len(self.script)) - 1](envelope)


def update(number: int = 1, *, run_id: str = RUN) -> Update:
    head = SignedHead(0, GENESIS, "00" * 64)
    return Update(run_id, DIGEST, number, head, np.ones(2, dtype=np.float32))


def says(message: Message, signer: Signer) -> Asked:
    return Asked([lambda _: seal(message, signer)])


def honest(name: str) -> Asked:
    return says(update(), SITES[name])


def silent(_envelope: bytes) -> None:
    return None


def unreachable(_envelope: bytes) -> bytes:
    raise UnreachableError("away")


def fails(_envelope: bytes) -> bytes:
    raise PeerError("broken")


def ask(
    sites: Mapping[str, Answerer],
    patience: Patience = PATIENT,
    *,
    clock: Callable[[], float] | None = None,
    check: Callable[[str, Update], None] = lambda _site, _reply: None,
) -> Outcome[Update]:
    exchange = Exchange(LocalGrid(sites), poll_seconds=0.001)
    known = trust(*SITES.values())
    strategy = Strategy(exchange, SERVER, known, clock=clock or Clock())
    return strategy.ask(sorted(sites), REQUEST, Update, patience, check=check)


def with_two_honest(third: Answerer) -> dict[str, Answerer]:
    return {"a": honest("a"), "b": honest("b"), "c": third}


def test_takes_every_honest_answer() -> None:
    outcome = ask({name: honest(name) for name in SITES})
    assert outcome.has_quorum
    assert sorted(outcome.answers) == ["a", "b", "c"]
    assert (outcome.refusals, outcome.rejections) == ({}, {})


def test_asks_every_site_with_the_same_signed_bytes() -> None:
    sites = {name: honest(name) for name in SITES}
    ask(sites)
    assert len({envelope for site in sites.values() for envelope in site.envelopes}) == 1
    opened = open_sealed(sites["a"].envelopes[0], trust(SERVER))
    assert isinstance(opened.message, RoundPlan)


@pytest.mark.parametrize(
    ("answerer", "rejection"),
    [
        (says(update(), SITES["a"]), Rejection.BAD_SIGNATURE),
        (says(update(), make_signer("stranger")), Rejection.BAD_SIGNATURE),
        (says(update(), Signer("c", make_signer("c").key)), Rejection.BAD_SIGNATURE),
        (says(update(run_id="train-2"), SITES["c"]), Rejection.MALFORMED),
        (says(REQUEST, SITES["c"]), Rejection.MALFORMED),
        (says(Refused("train-2", Refusal.NO_POLICY), SITES["c"]), Rejection.MALFORMED),
        (Asked([lambda _: b""]), Rejection.MALFORMED),
        (Asked([lambda _: b"SRDN\x03" + bytes(200)]), Rejection.MALFORMED),
        (Asked([lambda _: b"SRDN\x01" + bytes(200)]), Rejection.WIRE_VERSION),
        (Asked([lambda _: seal(update(), SITES["c"])[:-1]]), Rejection.BAD_SIGNATURE),
        (Asked([fails]), Rejection.FAILED),
    ],
    ids=[
        "another site's signature",
        "a stranger's signature",
        "its name with another key",
        "another run",
        "another kind of message",
        "a refusal of another run",
        "nothing",
        "garbage",
        "an unknown version",
        "cut short",
        "failed",
    ],
)
def test_does_not_count_what_no_site_would_answer(answerer: Asked, rejection: Rejection) -> None:
    outcome = ask(with_two_honest(answerer))
    assert outcome.has_quorum
    assert sorted(outcome.answers) == ["a", "b"]
    assert outcome.rejections == {"c": rejection}


def test_a_refusal_is_an_answer_but_does_not_count() -> None:
    refusal = Refused(RUN, Refusal.FORBIDDEN_BY_POLICY)
    outcome = ask(with_two_honest(says(refusal, SITES["c"])))
    assert outcome.has_quorum
    assert outcome.refusals == {"c": Refusal.FORBIDDEN_BY_POLICY}
    assert "c" not in outcome.answers


def test_the_caller_judges_what_is_implausible() -> None:
    def check(site: str, reply: Update) -> None:
        assert reply.round == 1
        if site == "c":
            raise ImplausibleError(Rejection.IMPLAUSIBLE, "too long")

    outcome = ask({name: honest(name) for name in SITES}, check=check)
    assert sorted(outcome.answers) == ["a", "b"]
    assert outcome.rejections == {"c": Rejection.IMPLAUSIBLE}


def test_a_site_that_comes_back_is_asked_again_and_joins() -> None:
    back = Asked([unreachable, unreachable, lambda _: seal(update(), SITES["c"])])
    outcome = ask(with_two_honest(back))
    assert sorted(outcome.answers) == ["a", "b", "c"]
    assert outcome.rejections == {}
    assert len(set(back.envelopes)) == 1
    assert len(back.envelopes) == 3


def test_a_site_that_never_comes_is_unreachable_and_not_late() -> None:
    patience = Patience(quorum=2, deadline_seconds=50, grace_seconds=20)
    outcome = ask(with_two_honest(unreachable), patience)
    assert outcome.has_quorum
    assert outcome.rejections == {"c": Rejection.UNREACHABLE}


def test_goes_on_without_a_silent_site_when_grace_is_over() -> None:
    clock = Clock()
    patience = Patience(quorum=2, deadline_seconds=10_000, grace_seconds=20)
    outcome = ask(with_two_honest(silent), patience, clock=clock)
    assert outcome.has_quorum
    assert outcome.rejections == {"c": Rejection.LATE}
    assert 20 < clock.now < 200


def test_waits_the_grace_for_a_site_that_answers_in_it() -> None:
    slow = Asked([silent, silent, silent, lambda _: seal(update(), SITES["c"])])
    outcome = ask(with_two_honest(slow), clock=Clock(step=0.1))
    assert sorted(outcome.answers) == ["a", "b", "c"]


def test_gives_up_at_the_deadline_without_a_quorum() -> None:
    clock = Clock()
    patience = Patience(quorum=2, deadline_seconds=100, grace_seconds=1)
    outcome = ask({"a": honest("a"), "b": silent, "c": unreachable}, patience, clock=clock)
    assert not outcome.has_quorum
    assert sorted(outcome.answers) == ["a"]
    assert outcome.rejections == {"b": Rejection.LATE, "c": Rejection.UNREACHABLE}
    assert 100 < clock.now < 300


def test_does_not_wait_for_a_quorum_that_cannot_come() -> None:
    clock = Clock(step=0.001)
    refuse = {name: says(Refused(RUN, Refusal.NO_POLICY), SITES[name]) for name in ("a", "b")}
    outcome = ask(refuse | {"c": silent}, clock=clock)
    assert not outcome.has_quorum
    assert outcome.refusals == {"a": Refusal.NO_POLICY, "b": Refusal.NO_POLICY}
    # A thousand seconds of patience were left.
    assert clock.now < 10


class LossyGrid(LocalGrid):
    """Loses one message: its link took it and died, and nobody will ever say so."""

    def __init__(self, sites: Mapping[str, Answerer]) -> None:
        super().__init__(sites)
        self.pushed: list[str] = []

    def push_messages(self, messages: Iterable[FlowerMessage]) -> Iterable[str]:
        ids = list(super().push_messages(messages))
        self.pushed += ids
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[FlowerMessage]:
        lost = self.pushed[2]  # the first one to c
        return super().pull_messages([each for each in message_ids if each != lost])


def test_a_site_whose_message_was_lost_is_asked_again() -> None:
    sites = {name: honest(name) for name in SITES}
    grid, clock = LossyGrid(sites), Clock()
    strategy = Strategy(
        Exchange(grid, poll_seconds=0.001), SERVER, trust(*SITES.values()), clock=clock
    )
    outcome = strategy.ask(sorted(SITES), REQUEST, Update, PATIENT)
    assert sorted(outcome.answers) == ["a", "b", "c"]
    assert len(grid.pushed) == 4
    assert sites["c"].envelopes == sites["a"].envelopes
    assert clock.now > 30


def test_a_silent_site_is_not_asked_without_end() -> None:
    grid, clock = LossyGrid({"a": honest("a"), "b": honest("b"), "c": silent}), Clock(step=5)
    strategy = Strategy(
        Exchange(grid, poll_seconds=0.001), SERVER, trust(*SITES.values()), clock=clock
    )
    patience = Patience(quorum=3, deadline_seconds=3600, grace_seconds=0)
    assert strategy.ask(sorted(SITES), REQUEST, Update, patience).rejections == {
        "c": Rejection.LATE
    }
    # Once for each site, and the silent one after 30 s, and then twice as late each time.
    assert len(grid.pushed) == 3 + 6


def test_knows_who_is_enrolled_and_who_is_there() -> None:
    grid = LocalGrid({"a": honest("a"), "stranger": silent})
    strategy = Strategy(Exchange(grid), SERVER, trust(*SITES.values()))
    assert strategy.enrolled() == ["a", "b", "c"]
    assert strategy.connected() == ["a"]


# ------------------------------------------------------------------ a person who has to approve

HEAD = SignedHead(0, GENESIS, "00" * 64)
PENDING = Refused(RUN, Refusal.APPROVAL_PENDING)


def admission() -> Message:
    return Admission(RUN, DIGEST, 100, 3, "e" * 64, "", 1.0, "c" * 64, HEAD)


def after_pending(name: str, times: int, then: Message) -> Asked:
    """A site that says so many times that a person must approve, and then something else."""
    waits = [lambda _: seal(PENDING, SITES[name])] * times
    return Asked([*waits, lambda _: seal(then, SITES[name])])


def admit(
    sites: Mapping[str, Answerer], patience: Patience, clock: Clock
) -> tuple[Outcome[Admission], list[str]]:
    """Ask for admission; also who was said to wait for a person."""
    job = sign_job(make_job(), make_signer("scientist"), purpose="train", nonce=new_nonce())
    waiting: list[str] = []
    exchange = Exchange(LocalGrid(sites), poll_seconds=0.001)
    known = trust(*SITES.values())
    strategy = Strategy(exchange, SERVER, known, clock=clock, sleep=clock.sleep)
    outcome = strategy.ask(
        sorted(sites),
        Admit(RUN, job),
        Admission,
        patience,
        on_hindered=lambda site, _: waiting.append(site),
        waits_for_people=True,
    )
    return outcome, waiting


def test_a_site_where_a_person_must_approve_is_asked_again_with_the_same_bytes() -> None:
    slow = after_pending("b", 4, admission())
    sites = {"a": says(admission(), SITES["a"]), "b": slow}
    # The others are through at once, and no grace is given: a person takes longer than that.
    outcome, waiting = admit(sites, Patience(1, 1000, grace_seconds=0), clock := Clock(0.01))
    assert sorted(outcome.answers) == ["a", "b"]
    assert waiting == ["b"]
    assert len(slow.envelopes) == 5
    assert len(set(slow.envelopes)) == 1
    # 2 s after the first answer, then half as long again each time.
    assert 2 + 3 + 4.5 + 6.75 <= clock.now < 40


def test_a_person_who_rejects_ends_the_part_of_that_site() -> None:
    rejected = Refused(RUN, Refusal.REJECTED)
    sites = {
        "a": says(admission(), SITES["a"]),
        "b": (asked := after_pending("b", 2, rejected)),
    }
    outcome, waiting = admit(sites, Patience(1, 1000, 0), Clock(0.01))
    assert outcome.has_quorum
    assert outcome.refusals == {"b": Refusal.REJECTED}
    assert (waiting, len(asked.envelopes)) == (["b"], 3)


def test_a_person_who_says_nothing_until_the_deadline_is_not_waited_for_longer() -> None:
    sites = {"a": says(admission(), SITES["a"]), "b": says(PENDING, SITES["b"])}
    outcome, waiting = admit(sites, Patience(1, 60, 0), clock := Clock(0.01))
    assert outcome.has_quorum
    assert outcome.refusals == {"b": Refusal.APPROVAL_PENDING}
    assert outcome.rejections == {}
    assert waiting == ["b"]
    assert 60 <= clock.now < 62
    # Asked 2, 3, 4.5 ... and then 15 s after each answer: not 30 times.
    assert len(sites["b"].envelopes) < 10


def test_no_quorum_without_the_person_is_a_refusal_by_its_name() -> None:
    outcome, _ = admit({"b": says(PENDING, SITES["b"])}, Patience(1, 30, 0), Clock(0.01))
    assert not outcome.has_quorum
    assert outcome.refusals == {"b": Refusal.APPROVAL_PENDING}


def test_only_an_admission_waits_for_a_person() -> None:
    pending = says(PENDING, SITES["b"])
    outcome = ask({"a": honest("a"), "c": honest("c"), "b": pending})
    assert outcome.refusals == {"b": Refusal.APPROVAL_PENDING}
    assert len(pending.envelopes) == 1


# ------------------------------------------------------------------ each site its own question


def test_each_site_is_asked_its_own_question() -> None:
    heads = {
        name: SignedHead(number, f"{number:064x}", "00" * 64)
        for number, name in ((1, "a"), (2, "b"))
    }
    sites = {name: says(Recalled(RUN, HEAD), SITES[name]) for name in heads}
    exchange = Exchange(LocalGrid(sites), poll_seconds=0.001)
    strategy = Strategy(exchange, SERVER, trust(*SITES.values()), clock=Clock())
    recalls = {name: Recall(RUN, head) for name, head in heads.items()}
    outcome = strategy.ask_each(recalls, Recalled, PATIENT)
    assert sorted(outcome.answers) == ["a", "b"]
    server = trust(SERVER)
    for name, site in sites.items():
        (envelope,) = site.envelopes
        assert open_sealed(envelope, server).message == Recall(RUN, heads[name])


def test_an_answer_is_kept_as_its_site_signed_it() -> None:
    outcome = ask({name: honest(name) for name in SITES})
    assert outcome.envelopes == {name: seal(update(), SITES[name]) for name in SITES}


# ------------------------------------------------------------------ sites of an older version


def older(name: str, *, version: int = 2) -> Asked:
    """A site that was not upgraded: it reads no version but its own."""

    def answer(envelope: bytes) -> bytes:
        is_readable = envelope[4] == version
        reply = update() if is_readable else Refused("", Refusal.MALFORMED)
        return seal(reply, SITES[name], version=version)

    return Asked([answer])


def test_a_site_that_was_not_upgraded_is_asked_in_its_version_and_stays_in_it() -> None:
    sites = {"a": honest("a"), "b": older("b"), "c": older("c")}
    exchange = Exchange(LocalGrid(sites), poll_seconds=0.001)
    strategy = Strategy(exchange, SERVER, trust(*SITES.values()), clock=Clock())
    for _ in range(2):
        outcome = strategy.ask(sorted(sites), REQUEST, Update, PATIENT)
        assert sorted(outcome.answers) == ["a", "b", "c"]
    assert [envelope[4] for envelope in sites["a"].envelopes] == [3, 3]
    assert [envelope[4] for envelope in sites["b"].envelopes] == [3, 2, 2]
    server = trust(SERVER)
    old, new = (open_sealed(sites[name].envelopes[1], server) for name in ("b", "a"))
    assert old.digest == new.digest


def test_a_site_that_can_never_read_a_question_is_not_asked_for_ever() -> None:
    never = Asked([lambda _: seal(Refused("", Refusal.MALFORMED), SITES["c"], version=2)])
    outcome = ask(with_two_honest(never))
    assert outcome.rejections == {"c": Rejection.MALFORMED}
    assert len(never.envelopes) == 2
