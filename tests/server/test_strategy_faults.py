"""Questions to sites that hang, repeat themselves, are in trouble, or whose messages get lost."""

import gc
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from federation import make_signer, trust
from flwr.app import Message as FlowerMessage
from flwr.app import Metadata

from sordino_protocols.heads import GENESIS, SignedHead
from sordino_protocols.messages import Message, Refusal, Refused, RoundPlan, Update
from sordino_protocols.signing import Signer
from sordino_protocols.wire import seal
from sordino_server.answers import Outcome, Patience, Rejection
from sordino_server.exchange import Exchange
from sordino_server.local_grid import Answerer, LocalGrid
from sordino_server.reasons import explain
from sordino_server.strategy import Strategy

SERVER = make_signer("server")
SITES = {name: make_signer(name) for name in ("a", "b", "c")}
RUN, DIGEST = "train-1", "d" * 64
REQUEST = RoundPlan(RUN, DIGEST, 1, np.zeros(2, dtype=np.float32))
ALL_OF_THEM = Patience(quorum=3, deadline_seconds=1000, grace_seconds=0)
HINDERED = Refused(RUN, Refusal.UNAVAILABLE)


@dataclass
class Clock:
    """Time that passes by waiting, and a little by looking."""

    now: float = 0.0
    step: float = 0.01

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class WatchedGrid(LocalGrid):
    """Remembers what was sent to whom; what it is told to drop, it says it does not know."""

    def __init__(self, sites: Mapping[str, Answerer], *, dropped: Iterable[int] = ()) -> None:
        super().__init__(sites)
        self.sent: list[Metadata] = []
        self._dropped = set(dropped)
        self._lost: set[str] = set()

    def push_messages(self, messages: Iterable[FlowerMessage]) -> Iterable[str]:
        pushed = list(messages)
        ids = list(super().push_messages(pushed))
        for key, message in zip(ids, pushed, strict=True):
            if len(self.sent) in self._dropped:
                self._lost.add(key)
            self.sent.append(message.metadata)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[FlowerMessage]:
        wanted = list(message_ids)
        lost = [each for each in wanted if each in self._lost]
        found = super().pull_messages([each for each in wanted if each not in self._lost])
        return [*found, *map(self._unknown, lost)]


@dataclass
class Asked:
    """A site that answers by a script, one line a request; the last line repeats."""

    script: Sequence[Callable[[bytes], bytes | None]]
    envelopes: list[bytes] = field(default_factory=list)

    def __call__(self, envelope: bytes) -> bytes | None:
        self.envelopes.append(envelope)
        return self.script[min(len(self.envelopes), len(self.script)) - 1](envelope)


def update(value: float = 1.0) -> Update:
    head = SignedHead(0, GENESIS, "00" * 64)
    return Update(RUN, DIGEST, 1, head, np.full(2, value, dtype=np.float32))


def saying(signer: Signer, *messages: Message) -> Asked:
    return Asked([lambda _, each=each: seal(each, signer) for each in messages])  # type: ignore[misc]


def honest(name: str) -> Asked:
    return saying(SITES[name], update())


def silent(_envelope: bytes) -> None:
    return None


def ask(
    grid: LocalGrid, patience: Patience, clock: Clock, told: list[tuple[str, Refusal]] | None = None
) -> Outcome[Update]:
    told = [] if told is None else told
    strategy = Strategy(
        Exchange(grid, poll_seconds=0.001),
        SERVER,
        trust(*SITES.values()),
        clock=clock,
        sleep=clock.sleep,
    )
    return strategy.ask(
        sorted(SITES), REQUEST, Update, patience, on_hindered=lambda *each: told.append(each)
    )


def sites(c: Answerer) -> dict[str, Answerer]:
    return {"a": honest("a"), "b": honest("b"), "c": c}


# ------------------------------------------------------------------ a site in trouble


def test_a_site_in_trouble_is_asked_again_until_it_is_mended() -> None:
    mended = saying(SITES["c"], HINDERED, HINDERED, HINDERED, update())
    told: list[tuple[str, Refusal]] = []
    outcome = ask(LocalGrid(sites(mended)), ALL_OF_THEM, clock := Clock(), told)
    assert sorted(outcome.answers) == ["a", "b", "c"]
    assert outcome.refusals == {}
    # With the same bytes each time, and less and less often; a person is told once.
    assert len(set(mended.envelopes)) == 1
    assert 2 + 3 + 4.5 <= clock.now < 30
    assert told == [("c", Refusal.UNAVAILABLE)]


def test_where_the_others_are_enough_nobody_waits_for_it() -> None:
    broken = saying(SITES["c"], HINDERED)
    patience = Patience(quorum=2, deadline_seconds=1000, grace_seconds=0)
    outcome = ask(LocalGrid(sites(broken)), patience, clock := Clock())
    assert outcome.has_quorum
    assert outcome.refusals == {"c": Refusal.UNAVAILABLE}
    assert clock.now < 2


def test_a_site_that_is_not_mended_is_given_up_at_the_deadline_and_by_its_name() -> None:
    outcome = ask(LocalGrid(sites(saying(SITES["c"], HINDERED))), ALL_OF_THEM, clock := Clock())
    assert not outcome.has_quorum
    assert outcome.refusals == {"c": Refusal.UNAVAILABLE}
    assert outcome.rejections == {}
    assert 1000 < clock.now < 1100


@pytest.mark.parametrize("refusal", [Refusal.INTERNAL, Refusal.INTEGRITY, Refusal.NO_POLICY])
def test_what_no_waiting_mends_is_not_asked_again(refusal: Refusal) -> None:
    refusing = saying(SITES["c"], Refused(RUN, refusal))
    outcome = ask(LocalGrid(sites(refusing)), ALL_OF_THEM, clock := Clock())
    assert outcome.refusals == {"c": refusal}
    assert len(refusing.envelopes) == 1
    assert clock.now < 2


# ------------------------------------------------------------------ sites that say more than once


def test_an_answer_that_comes_again_counts_once_and_is_counted() -> None:
    # Silent at first, so it is asked twice, and answers both times.
    twice = Asked([silent] * 400 + [lambda _: seal(update(), SITES["c"])])
    grid = LocalGrid({"a": silent, "b": honest("b"), "c": twice})
    outcome = ask(grid, Patience(2, 100, 80), Clock(step=0.05))
    assert sorted(outcome.answers) == ["b", "c"]
    assert outcome.duplicates == {"c": 1}
    assert outcome.changed == frozenset()


def test_a_site_that_says_something_else_the_second_time_is_found_out() -> None:
    script = [silent] * 400 + [
        lambda _: seal(update(1.0), SITES["c"]),
        lambda _: seal(update(2.0), SITES["c"]),
    ]
    grid = LocalGrid({"a": silent, "b": honest("b"), "c": Asked(script)})
    outcome = ask(grid, Patience(2, 100, 80), Clock(step=0.05))
    # The first one counts; of the second the run's log tells.
    assert outcome.answers["c"].vector.tolist() == [1.0, 1.0]
    assert outcome.changed == {"c"}


# ------------------------------------------------------------------ messages that get lost, or old


def test_a_message_expires_when_it_is_repeated() -> None:
    grid = WatchedGrid(sites(silent))
    ask(grid, Patience(3, 300, 0), Clock(step=0.5))
    to_c = [each for each in grid.sent if each.dst_node_id == 4]
    # A site that was away for long finds one message of a question, and not one for each time.
    assert [each.ttl for each in to_c[:3]] == [30, 60, 120]
    assert sum(each.ttl for each in to_c) <= 301
    assert all(each.ttl == 30 for each in grid.sent if each.dst_node_id != 4)


def test_a_message_that_the_grid_lost_is_sent_again_soon() -> None:
    asked = honest("c")
    grid = WatchedGrid(sites(asked), dropped={2})
    outcome = ask(grid, ALL_OF_THEM, clock := Clock())
    assert sorted(outcome.answers) == ["a", "b", "c"]
    assert len(grid.sent) == 4
    assert clock.now < 10


def test_a_site_whose_messages_are_always_lost_is_late_at_the_deadline() -> None:
    grid = WatchedGrid(sites(honest("c")), dropped=range(2, 10_000))
    outcome = ask(grid, Patience(3, 60, 0), clock := Clock())
    assert outcome.rejections == {"c": Rejection.LATE}
    assert 60 < clock.now < 70
    assert len(grid.sent) < 40


# ------------------------------------------------------------------ many rounds


def test_asking_leaves_nothing_behind() -> None:
    long = Update(RUN, DIGEST, 1, SignedHead(0, GENESIS, "00" * 64), np.zeros(20_000, np.float32))
    grid = LocalGrid({name: saying(signer, long) for name, signer in SITES.items()})
    exchange = Exchange(grid, poll_seconds=0.001)
    strategy = Strategy(exchange, SERVER, trust(*SITES.values()))

    def held_after(questions: int) -> int:
        for _ in range(questions):
            assert strategy.ask(sorted(SITES), REQUEST, Update, ALL_OF_THEM).has_quorum
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    first = held_after(5)
    # One of 45 answers that was kept would be 80 kB.
    assert held_after(15) - first < 80_000
    tracemalloc.stop()


# ------------------------------------------------------------------ words


def test_every_refusal_and_every_rejection_has_words() -> None:
    for why in (*Refusal, *Rejection):
        name, _, words = explain(why.value).partition(", ")
        assert name == why.value
        assert len(words) >= 10
    assert explain("something_new") == "something_new"
