"""One question to a cohort: who is asked, how many must answer, how long is waited.

The same sealed bytes go to every site of the cohort. Answers are taken as they come, each believed
only if its site signed it and it answers this very question. A site that cannot be reached is asked
again until the deadline; a site that refuses, or whose answer is rejected, is done with this
question. When to go on is decided by `rounds.ROUND_TRANSITIONS` alone.
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
    RoundState,
    advance_round,
    round_event,
)
from sordino_protocols.signing import Signer, TrustStore
from sordino_protocols.wire import open_sealed, seal
from sordino_server.exchange import Answer, AnswerError, Exchange, Pending

_RETRY_SECONDS = 2.0

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
class _Collected(Generic[R]):
    answers: dict[str, R] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    rejections: dict[str, Rejection] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)

    @property
    def finished(self) -> int:
        return len(self.answers) + len(self.refusals) + len(self.rejections)


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
        state, collected = RoundState.OPEN, _Collected[R]()
        started = self._clock()
        met_at, retry_at = started, started
        waiting: list[Pending] = []
        to_ask = set(cohort)
        while state not in CLOSED_ROUND_STATES:
            now = self._clock()
            if to_ask and now >= retry_at:
                left = max(1.0, patience.deadline_seconds - (now - started))
                waiting.append(self._send(to_ask, envelope, request, left))
                to_ask, retry_at = set(), now + _RETRY_SECONDS
            waiting, come = self._poll(waiting)
            for answer in come:
                self._take(answer, request, expected, collected, check)
            to_ask |= collected.unreachable
            collected.unreachable = set()
            event = round_event(
                state,
                answered=len(collected.answers),
                asked=len(cohort) - len(collected.refusals) - len(collected.rejections),
                quorum=patience.quorum,
                is_grace_over=self._clock() - met_at > patience.grace_seconds,
                is_deadline_over=self._clock() - started > patience.deadline_seconds
                or (collected.finished == len(cohort) and state is RoundState.OPEN),
            )
            if event is not None:
                state, met_at = advance_round(state, event), self._clock()
            elif not come and not waiting:
                time.sleep(min(_RETRY_SECONDS, patience.deadline_seconds) / 10)
        for site in set(cohort) - set(collected.answers) - set(collected.refusals):
            collected.rejections.setdefault(site, Rejection.LATE)
        return Outcome(
            collected.answers,
            collected.refusals,
            collected.rejections,
            has_quorum=state is RoundState.COMPLETE,
        )

    def _send(
        self, sites: set[str], envelope: bytes, request: Request, ttl_seconds: float
    ) -> Pending:
        name = type(request).__name__.lower()
        return self._exchange.send(
            dict.fromkeys(sorted(sites), envelope),
            message_type=f"query.{name}",
            ttl_seconds=ttl_seconds,
        )

    def _poll(self, waiting: Sequence[Pending]) -> tuple[list[Pending], list[Answer]]:
        come: list[Answer] = []
        still: list[Pending] = []
        for pending in waiting:
            answers, rest = self._exchange.poll(pending)
            come += answers
            if rest.sites:
                still.append(rest)
        return still, come

    def _take(
        self,
        answer: Answer,
        request: Request,
        expected: type[R],
        collected: _Collected[R],
        check: Callable[[str, R], None],
    ) -> None:
        if answer.error is AnswerError.UNREACHABLE:
            collected.unreachable.add(answer.site)
            return
        try:
            reply = self._open(answer, request, expected)
            if isinstance(reply, Refused):
                collected.refusals[answer.site] = reply.refusal
                self._log.warning("site_refused", site=answer.site, refusal=reply.refusal.value)
            else:
                check(answer.site, reply)
                collected.answers[answer.site] = reply
        except ImplausibleError as error:
            collected.rejections[answer.site] = error.rejection
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
