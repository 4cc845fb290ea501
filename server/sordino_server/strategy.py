"""One question to a cohort: who is asked, how many must answer, how long is waited.

The same sealed bytes go to every site of the cohort. Answers are taken as they come, each believed
only if its site signed it and it answers this very question. A site that cannot be reached, or has
been silent for long, or where a person has yet to approve, is asked again with the same bytes,
which costs it nothing; a site that answers, refuses, or whose answer is rejected, is done with this
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
# A person at a site takes minutes or hours: asked soon at first, then every quarter of a minute.
_FIRST_APPROVAL_SECONDS = 2.0
_LONGEST_APPROVAL_SECONDS = 15.0

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
    INTEGRITY = "integrity"


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
        grace_seconds: from reaching the quorum to going on without the rest; a site where a person
            has yet to approve is waited for until the deadline.
    """

    quorum: int
    deadline_seconds: float
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What a cohort said.

    Attributes:
        answers: by site.
        envelopes: of the same sites, their answers exactly as they signed them.
        refusals: sites that said no, and the enum they said.
        rejections: sites whose answer did not count, and why.
        has_quorum: whether enough answered.
    """

    answers: Mapping[str, R]
    envelopes: Mapping[str, bytes]
    refusals: Mapping[str, Refusal]
    rejections: Mapping[str, Rejection]
    has_quorum: bool


@dataclass(slots=True)
class _Question(Generic[R]):
    """A question under way: whom to ask when, and what has come."""

    requests: Mapping[str, bytes]
    run_id: str
    kind: str
    patience: Patience
    asked_at: float
    answers: dict[str, R] = field(default_factory=dict)
    envelopes: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    rejections: dict[str, Rejection] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    unapproved: set[str] = field(default_factory=set)
    waiting: list[Pending] = field(default_factory=list)
    _next: dict[str, float] = field(default_factory=dict)
    _pause: dict[str, float] = field(default_factory=dict)
    _approval: dict[str, float] = field(default_factory=dict)

    @property
    def open_sites(self) -> set[str]:
        """Sites that may still answer."""
        return set(self.requests) - set(self.answers) - set(self.refusals) - set(self.rejections)

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

    def must_be_approved(self, site: str, now: float) -> bool:
        """Ask a site again soon, and less and less soon. Returns whether it says so first now."""
        is_new = site not in self.unapproved
        self.unapproved.add(site)
        pause = _FIRST_APPROVAL_SECONDS if is_new else 1.5 * self._approval[site]
        self._approval[site] = min(pause, _LONGEST_APPROVAL_SECONDS)
        self._next[site] = now + self._approval[site]
        return is_new

    def event(self, state: RoundState, *, met_at: float, now: float) -> RoundEvent | None:
        """What has been reached."""
        possible = len(self.answers) + len(self.open_sites)
        return round_event(
            state,
            answered=len(self.answers),
            asked=possible,
            quorum=self.patience.quorum,
            is_grace_over=now - met_at > self.patience.grace_seconds
            and not self.unapproved & self.open_sites,
            # Nobody waits for a quorum that cannot come any more.
            is_deadline_over=now - self.asked_at > self.patience.deadline_seconds
            or (state is RoundState.OPEN and possible < self.patience.quorum),
        )

    def outcome(self, *, has_quorum: bool) -> Outcome[R]:
        """The end of it: who has not answered by now is late, or was not there."""
        unapproved = dict.fromkeys(self.unapproved & self.open_sites, Refusal.APPROVAL_PENDING)
        missing = {
            site: Rejection.UNREACHABLE if site in self.unreachable else Rejection.LATE
            for site in self.open_sites - self.unapproved
        }
        return Outcome(
            self.answers,
            self.envelopes,
            self.refusals | unapproved,
            self.rejections | missing,
            has_quorum=has_quorum,
        )


class Strategy:
    """Asks cohorts. Holds no state of a run.

    Attributes:
        signer: the server's own key.
        sites: the sites' public keys.
    """

    def __init__(
        self,
        exchange: Exchange,
        signer: Signer,
        sites: TrustStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._exchange = exchange
        self.signer = signer
        self.sites = sites
        self._clock = clock
        self._sleep = sleep
        self._log = structlog.get_logger(component="server")

    def enrolled(self) -> list[str]:
        """Sites whose signature is believed, connected or not, by name."""
        return sorted(self.sites.keys)

    def connected(self) -> list[str]:
        """Sites that are enrolled and connected, by name."""
        return sorted(set(self._exchange.nodes()) & set(self.sites.keys))

    def ask(
        self,
        cohort: Sequence[str],
        request: Request,
        expected: type[R],
        patience: Patience,
        *,
        check: Callable[[str, R], None] = lambda _site, _reply: None,
        on_approval_pending: Callable[[str], None] | None = None,
    ) -> Outcome[R]:
        """Ask all sites of a cohort the same, and wait as `patience` says.

        Args:
            cohort: whom to ask.
            request: what; sealed once, so a repetition has the same bytes.
            expected: the type of answer.
            patience: when to stop waiting.
            check: raises `ImplausibleError` for an answer that must not count.
            on_approval_pending: told once of each site where a person has yet to approve; without
                it, that is a refusal like any other.
        """
        question: _Question[R] = _Question(
            dict.fromkeys(cohort, seal(request, self.signer)),
            request.run_id,
            _kind(request),
            patience,
            asked_at=self._clock(),
        )
        return self._wait(question, expected, check, on_approval_pending)

    def ask_each(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        patience: Patience,
        *,
        check: Callable[[str, R], None] = lambda _site, _reply: None,
    ) -> Outcome[R]:
        """Ask every site something of its own, of one kind and about one run; else as `ask`.

        Args:
            requests: what to ask whom; at least one.
            expected: as for `ask`.
            patience: as for `ask`.
            check: as for `ask`.
        """
        one = next(iter(requests.values()))
        question: _Question[R] = _Question(
            {site: seal(request, self.signer) for site, request in requests.items()},
            one.run_id,
            _kind(one),
            patience,
            asked_at=self._clock(),
        )
        return self._wait(question, expected, check, None)

    def _wait(
        self,
        question: _Question[R],
        expected: type[R],
        check: Callable[[str, R], None],
        on_approval_pending: Callable[[str], None] | None,
    ) -> Outcome[R]:
        state, met_at = RoundState.OPEN, question.asked_at
        while state not in CLOSED_ROUND_STATES:
            self._send(question)
            come = self._poll(question)
            for answer in come:
                if answer.site in question.open_sites:
                    self._take(answer, expected, question, check, on_approval_pending)
            event = question.event(state, met_at=met_at, now=self._clock())
            if event is not None:
                state, met_at = advance_round(state, event), self._clock()
            elif not come and not question.waiting:
                self._sleep(min(_RETRY_SECONDS, question.patience.deadline_seconds) / 10)
        return question.outcome(has_quorum=state is RoundState.COMPLETE)

    def _send(self, question: _Question[R]) -> None:
        now = self._clock()
        due = question.due(now)
        if due:
            left = question.patience.deadline_seconds - (now - question.asked_at)
            pending = self._exchange.send(
                {site: question.requests[site] for site in due},
                message_type=question.kind,
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
        expected: type[R],
        question: _Question[R],
        check: Callable[[str, R], None],
        on_approval_pending: Callable[[str], None] | None,
    ) -> None:
        site = answer.site
        if answer.error is AnswerError.UNREACHABLE:
            question.was_unreachable(site, self._clock())
            return
        try:
            envelope, reply = self._open(answer, question.run_id, expected)
            match reply:
                case Refused(refusal=Refusal.APPROVAL_PENDING) if on_approval_pending is not None:
                    if question.must_be_approved(site, self._clock()):
                        self._log.info("approval_pending", site=site)
                        on_approval_pending(site)
                case Refused(refusal=refusal):
                    question.refusals[site] = refusal
                    self._log.warning("site_refused", site=site, refusal=refusal.value)
                case _:
                    check(site, reply)
                    question.answers[site], question.envelopes[site] = reply, envelope
        except ImplausibleError as error:
            question.rejections[site] = error.rejection
            self._log.warning(
                "answer_rejected",
                site=site,
                rejection=error.rejection.value,
                reason=str(error),
            )

    def _open(self, answer: Answer, run_id: str, expected: type[R]) -> tuple[bytes, R | Refused]:
        if answer.envelope is None:
            reason = Rejection(answer.error or AnswerError.FAILED)
            raise ImplausibleError(reason, "no answer")
        try:
            opened = open_sealed(answer.envelope, self.sites)
        except AuthenticationError as error:
            raise ImplausibleError(Rejection.BAD_SIGNATURE, str(error)) from None
        except PeerError as error:
            raise ImplausibleError(Rejection.MALFORMED, str(error)) from None
        if opened.sender != answer.site:
            raise ImplausibleError(Rejection.BAD_SIGNATURE, "another site's signature")
        if opened.message.run_id != run_id:
            raise ImplausibleError(Rejection.MALFORMED, "an answer for another run")
        if not isinstance(opened.message, expected | Refused):
            raise ImplausibleError(Rejection.MALFORMED, "another kind of answer")
        return answer.envelope, opened.message


def _kind(request: Request) -> str:
    return f"query.{type(request).__name__.lower()}"
