"""A question to a cohort while it is open: whom to ask when, and what has come.

Pure bookkeeping, without a clock or a network. What must stay true: a site's first answer that
counts is the only one that ever does; whoever may still answer is asked again with the same bytes,
less and less often; and a message that is repeated has expired by then, so that a site that comes
back after long finds one message of a question, and none of a round that was closed meanwhile: it
would pay for a release that nobody waits for.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Generic, TypeVar

from sordino_protocols.messages import Refusal, Reply
from sordino_protocols.rounds import RoundEvent, RoundState, round_event
from sordino_server.answers import Outcome, Patience, Rejection
from sordino_server.exchange import Pending
from sordino_server.site_versions import SealedRequests

RETRY_SECONDS = 2.0
# A link that dies with a message in its hands takes it along, and may be back before anybody
# notices. Asked again after this, and twice as long each time.
_REPEAT_SECONDS = 30.0
# A person at a site takes minutes or hours, a full disk not less: asked soon at first, then every
# quarter of a minute.
_FIRST_WAIT_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 15.0

R = TypeVar("R", bound=Reply)


@dataclass(slots=True)
class Question(Generic[R]):
    """A question under way.

    Attributes:
        requests: what whom is asked.
        run_id: what it is about.
        kind: of the message, for Flower.
        patience: when to stop.
        asked_at: when it began, by the strategy's clock.
        waits_for_people: whether a site where a person has yet to approve is asked again.
        answers: what counts, by site.
        envelopes: the same, as the sites signed it.
        refusals: who said no, for good.
        rejections: whose answer did not count.
        waiting: messages whose answers may still come.
    """

    requests: SealedRequests
    run_id: str
    kind: str
    patience: Patience
    asked_at: float
    waits_for_people: bool = False
    answers: dict[str, R] = field(default_factory=dict)
    envelopes: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    rejections: dict[str, Rejection] = field(default_factory=dict)
    waiting: list[Pending] = field(default_factory=list)
    _unreachable: set[str] = field(default_factory=set)
    _hindered: dict[str, Refusal] = field(default_factory=dict)
    _duplicates: Counter[str] = field(default_factory=Counter)
    _changed: set[str] = field(default_factory=set)
    _next: dict[str, float] = field(default_factory=dict)
    _pause: dict[str, float] = field(default_factory=dict)
    _wait: dict[str, float] = field(default_factory=dict)

    @property
    def open_sites(self) -> set[str]:
        """Sites that may still answer."""
        closed = self.answers.keys() | self.refusals.keys() | self.rejections.keys()
        return set(self.requests.requests) - closed

    def due(self, now: float) -> Iterator[tuple[list[str], float]]:
        """Sites to ask now, with how long their message lives: until it is repeated."""
        due = sorted(site for site in self.open_sites if now >= self._next.get(site, now))
        pauses = {site: self._pause.setdefault(site, _REPEAT_SECONDS) for site in due}
        left = self.patience.deadline_seconds - (now - self.asked_at)
        for site, pause in pauses.items():
            self._next[site], self._pause[site] = now + pause, 2 * pause
            self._unreachable.discard(site)
        for pause, sites in groupby(sorted(due, key=pauses.__getitem__), key=pauses.__getitem__):
            yield list(sites), max(1.0, min(left, pause))

    def was_unreachable(self, site: str, now: float) -> None:
        """Ask a site again soon."""
        self._unreachable.add(site)
        self._next[site], self._pause[site] = now + RETRY_SECONDS, _REPEAT_SECONDS

    def was_lost(self, site: str, now: float) -> None:
        """Ask a site again: its message is gone before anybody's time was up."""
        self._next[site] = min(self._next.get(site, now), now + RETRY_SECONDS)

    def ask_again(self, site: str) -> None:
        """Ask a site again at once."""
        del self._next[site]

    def is_hindered(self, site: str, by: Refusal, now: float) -> bool:
        """Ask a site again soon, and less and less soon. Returns whether it says so first now.

        Args:
            site: who cannot answer yet.
            by: why: a person has to approve, or something at the site has to be mended.
            now: by the strategy's clock.
        """
        is_new = self._hindered.get(site) is not by
        self._hindered[site] = by
        pause = _FIRST_WAIT_SECONDS if is_new else 1.5 * self._wait[site]
        self._wait[site] = min(pause, _LONGEST_WAIT_SECONDS)
        self._next[site], self._pause[site] = now + self._wait[site], _REPEAT_SECONDS
        return is_new

    def waits_for(self, refusal: Refusal) -> bool:
        """Whether a site that says this is asked again."""
        match refusal:
            case Refusal.APPROVAL_PENDING:
                return self.waits_for_people
            case _:
                return refusal is Refusal.UNAVAILABLE

    def came_again(self, site: str, envelope: bytes | None) -> bool:
        """Count an answer of a site that has answered. Returns whether it is not the same one."""
        self._duplicates[site] += 1
        is_changed = envelope is not None and self.envelopes.get(site, envelope) != envelope
        if is_changed:
            self._changed.add(site)
        return is_changed

    def event(self, state: RoundState, *, met_at: float, now: float) -> RoundEvent | None:
        """What has been reached."""
        possible = len(self.answers) + len(self.open_sites)
        return round_event(
            state,
            answered=len(self.answers),
            asked=possible,
            quorum=self.patience.quorum,
            is_grace_over=now - met_at > self.patience.grace_seconds
            and not self._waited_for(Refusal.APPROVAL_PENDING),
            # Nobody waits for a quorum that cannot come any more.
            is_deadline_over=now - self.asked_at > self.patience.deadline_seconds
            or (state is RoundState.OPEN and possible < self.patience.quorum),
        )

    def outcome(self, *, has_quorum: bool) -> Outcome[R]:
        """The end of it: who has not answered by now is late, or was not there."""
        hindered = {site: self._hindered[site] for site in self.open_sites & set(self._hindered)}
        missing = {
            site: Rejection.UNREACHABLE if site in self._unreachable else Rejection.LATE
            for site in self.open_sites - set(hindered)
        }
        return Outcome(
            self.answers,
            self.envelopes,
            self.refusals | hindered,
            self.rejections | missing,
            has_quorum=has_quorum,
            duplicates=dict(self._duplicates),
            changed=frozenset(self._changed),
        )

    def _waited_for(self, refusal: Refusal) -> Collection[str]:
        return [site for site in self.open_sites if self._hindered.get(site) is refusal]
