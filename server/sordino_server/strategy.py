"""One question to a cohort: who is asked, how many must answer, how long is waited.

The same sealed bytes go to every site of the cohort. Answers are taken as they come, each believed
only if its site signed it and it answers this very question. A site that cannot be reached, or has
been silent for long, is asked again with the same bytes, which costs it nothing; a site that
answers, refuses, or whose answer is rejected, is done with this question. When to go on is decided
by `rounds.ROUND_TRANSITIONS` alone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

import structlog

from sordino_protocols.errors import AuthenticationError, PeerError
from sordino_protocols.messages import Refusal, Refused, Reply, Request
from sordino_protocols.rounds import (
    CLOSED_ROUND_STATES,
    RoundEvent,
    RoundState,
    advance_round,
    round_event,
)
from sordino_protocols.signing import Signer, TrustStore
from sordino_protocols.wire import open_sealed, seal
from sordino_server.exchange import Answer, AnswerError, Exchange, Pending

_RETRY_SECONDS = 2.0
# A link that dies with a message in its hands takes it along, and may be back before anybody
# notices. Asked again after this, and twice as long each time.
_REPEAT_SECONDS = 60.0

R = TypeVar("R", bound=Reply)


class Rejection(StrEnum):
    """Why an answer does not count: the label of `sordino_updates_total`."""

    UNREACHABLE = "unreachable"
    FAILED = "failed"
    LATE = "late"
    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    REFUSED = "refused"
    BAD_SHAPE = "bad_shape"
    IMPLAUSIBLE = "implausible"


class ImplausibleError(PeerError):
    """An answer that no honest site would give.

    Attributes:
        rejection: in what way.
    """

    def __init__(self, rejection: Rejection, reason: str) -> None:
        super().__init__(reason)
        self.rejection = rejection


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a question waits, and for how many.

    Attributes:
        quorum: answers without which the question has failed.
        deadline_seconds: from asking to giving up on those who have not answered.
        grace_seconds: from reaching the quorum to going on without the rest.
    """

    quorum: int
    deadline_seconds: float
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What a cohort said.

    Attributes:
        answers: by site.
        refusals: sites that said no, and the enum they said.
        rejections: sites whose answer did not count, and why.
        has_quorum: whether enough answered.
    """

    answers: Mapping[str, R]
    refusals: Mapping[str, Refusal]
    rejections: Mapping[str, Rejection]
    has_quorum: bool


@dataclass(slots=True)
class _Question(Generic[R]):
    """A question under way: whom to ask when, and what has come."""

    cohort: frozenset[str]
    patience: Patience
    asked_at: float
    answers: dict[str, R] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    rejections: dict[str, Rejection] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    waiting: list[Pending] = field(default_factory=list)
    _next: dict[str, float] = field(default_factory=dict)
    _pause: dict[str, float] = field(default_factory=dict)

    @property
    def open_sites(self) -> set[str]:
        """Sites that may still answer."""
        return set(self.cohort) - set(self.answers) - set(self.refusals) - set(self.rejections)

    def due(self, now: float) -> list[str]:
        """Sites to ask now, and from now on again after a pause."""
        due = sorted(site for site in self.open_sites if now >= self._next.get(site, now))
        for site in due:
            pause = self._pause.setdefault(site, _REPEAT_SECONDS)
            self._next[site], self._pause[site] = now + pause, 2 * pause
            self.unreachable.discard(site)
        return due

    def was_unreachable(self, site: str, now: float) -> None:
        """Ask a site again soon."""
        self.unreachable.add(site)
        self._next[site], self._pause[site] = now + _RETRY_SECONDS, _REPEAT_SECONDS

    def event(self, state: RoundState, *, met_at: float, now: float) -> RoundEvent | None:
        """What has been reached."""
        possible = len(self.answers) + len(self.open_sites)
        return round_event(
            state,
            answered=len(self.answers),
            asked=possible,
            quorum=self.patience.quorum,
            is_grace_over=now - met_at > self.patience.grace_seconds,
            # Nobody waits for a quorum that cannot come any more.
            is_deadline_over=now - self.asked_at > self.patience.deadline_seconds
            or (state is RoundState.OPEN and possible < self.patience.quorum),
        )

    def outcome(self, *, has_quorum: bool) -> Outcome[R]:
        """The end of it: who has not answered by now is late, or was not there."""
        missing = {
            site: Rejection.UNREACHABLE if site in self.unreachable else Rejection.LATE
            for site in self.open_sites
        }
        return Outcome(
            self.answers, self.refusals, self.rejections | missing, has_quorum=has_quorum
        )


class Strategy:
    """Asks cohorts. Holds the server's key and the sites' public ones, and no state of a run."""

    def __init__(
        self,
        exchange: Exchange,
        signer: Signer,
        sites: TrustStore,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exchange = exchange
        self._signer = signer
        self._sites = sites
        self._clock = clock
        self._log = structlog.get_logger(component="server")

    def enrolled(self) -> list[str]:
        """Sites whose signature is believed, connected or not, by name."""
        return sorted(self._sites.keys)

    def connected(self) -> list[str]:
        """Sites that are enrolled and connected, by name."""
        return sorted(set(self._exchange.nodes()) & set(self._sites.keys))

    def ask(
        self,
        cohort: Sequence[str],
        request: Request,
        expected: type[R],
        patience: Patience,
        *,
        check: Callable[[str, R], None] = lambda _site, _reply: None,
    ) -> Outcome[R]:
        """Ask all sites of a cohort the same, and wait as `patience` says.

        Args:
            cohort: whom to ask.
            request: what; sealed once, so a repetition has the same bytes.
            expected: the type of answer.
            patience: when to stop waiting.
            check: raises `ImplausibleError` for an answer that must not count.
        """
        envelope = seal(request, self._signer)
        question = _Question[R](frozenset(cohort), patience, asked_at=self._clock())
        state, met_at = RoundState.OPEN, question.asked_at
        while state not in CLOSED_ROUND_STATES:
            self._send(question, envelope, request)
            come = self._poll(question)
            for answer in come:
                if answer.site in question.open_sites:
                    self._take(answer, request, expected, question, check)
            event = question.event(state, met_at=met_at, now=self._clock())
            if event is not None:
                state, met_at = advance_round(state, event), self._clock()
            elif not come and not question.waiting:
                time.sleep(min(_RETRY_SECONDS, patience.deadline_seconds) / 10)
        return question.outcome(has_quorum=state is RoundState.COMPLETE)

    def _send(self, question: _Question[R], envelope: bytes, request: Request) -> None:
        now = self._clock()
        due = question.due(now)
        if due:
            left = question.patience.deadline_seconds - (now - question.asked_at)
            pending = self._exchange.send(
                dict.fromkeys(due, envelope),
                message_type=f"query.{type(request).__name__.lower()}",
                ttl_seconds=max(1.0, left),
            )
            question.waiting.append(pending)

    def _poll(self, question: _Question[R]) -> list[Answer]:
        come: list[Answer] = []
        still: list[Pending] = []
        for pending in question.waiting:
            answers, rest = self._exchange.poll(pending)
            come += answers
            if rest.sites & question.open_sites:
                still.append(rest)
        question.waiting = still
        return come

    def _take(
        self,
        answer: Answer,
        request: Request,
        expected: type[R],
        question: _Question[R],
        check: Callable[[str, R], None],
    ) -> None:
        if answer.error is AnswerError.UNREACHABLE:
            question.was_unreachable(answer.site, self._clock())
            return
        try:
            reply = self._open(answer, request, expected)
            if isinstance(reply, Refused):
                question.refusals[answer.site] = reply.refusal
                self._log.warning("site_refused", site=answer.site, refusal=reply.refusal.value)
            else:
                check(answer.site, reply)
                question.answers[answer.site] = reply
        except ImplausibleError as error:
            question.rejections[answer.site] = error.rejection
            self._log.warning(
                "answer_rejected",
                site=answer.site,
                rejection=error.rejection.value,
                reason=str(error),
            )

    def _open(self, answer: Answer, request: Request, expected: type[R]) -> R | Refused:
        if answer.envelope is None:
            reason = Rejection(answer.error or AnswerError.FAILED)
            raise ImplausibleError(reason, "no answer")
        try:
            opened = open_sealed(answer.envelope, self._sites)
        except AuthenticationError as error:
            raise ImplausibleError(Rejection.BAD_SIGNATURE, str(error)) from None
        except PeerError as error:
            raise ImplausibleError(Rejection.MALFORMED, str(error)) from None
        if opened.sender != answer.site:
            raise ImplausibleError(Rejection.BAD_SIGNATURE, "another site's signature")
        if opened.message.run_id != request.run_id:
            raise ImplausibleError(Rejection.MALFORMED, "an answer for another run")
        if not isinstance(opened.message, expected | Refused):
            raise ImplausibleError(Rejection.MALFORMED, "another kind of answer")
        return opened.message
