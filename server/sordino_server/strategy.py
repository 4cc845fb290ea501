"""One question to a cohort: who is asked, how many must answer, how long is waited.

The same sealed bytes go to every site of the cohort. Answers are taken as they come, each believed
only if its site signed it and it answers this very question. A site that cannot be reached, or has
been silent for long, or where a person has yet to approve or a disk to be mended, is asked again
with the same bytes, which costs it nothing; so is one that understands an older version of the wire
only, in that version; a site that answers, refuses, or whose answer is rejected, is done with this
question. When to go on is decided by `rounds.ROUND_TRANSITIONS` alone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from sordino_protocols.errors import AuthenticationError
from sordino_protocols.messages import Refusal, Refused, Reply, Request
from sordino_protocols.rounds import CLOSED_ROUND_STATES, RoundState, advance_round
from sordino_protocols.signing import Signer, TrustStore
from sordino_protocols.wire import open_sealed
from sordino_protocols.wire_values import UnreadableError, WireVersionError
from sordino_server.answers import ImplausibleError, Outcome, Patience, Rejection
from sordino_server.exchange import Answer, AnswerError, Exchange, Pending
from sordino_server.question import RETRY_SECONDS, Question
from sordino_server.site_versions import SealedRequests, SiteVersions

__all__ = ["ImplausibleError", "Outcome", "Patience", "Rejection", "Strategy"]

R = TypeVar("R", bound=Reply)


def _nobody_is_told(_site: str, _hindrance: Refusal) -> None:
    return


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
        self._versions = SiteVersions()
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
        on_hindered: Callable[[str, Refusal], None] = _nobody_is_told,
        waits_for_people: bool = False,
    ) -> Outcome[R]:
        """Ask all sites of a cohort the same, and wait as `patience` says.

        Args:
            cohort: whom to ask.
            request: what; a repetition has the same bytes.
            expected: the type of answer.
            patience: when to stop waiting.
            check: raises `ImplausibleError` for an answer that must not count.
            on_hindered: told once of each site that cannot answer yet, and why.
            waits_for_people: whether a site where a person has yet to approve is asked again;
                otherwise that is a refusal like any other.
        """
        question: Question[R] = Question(
            SealedRequests(dict.fromkeys(cohort, request), self.signer),
            request.run_id,
            _kind(request),
            patience,
            asked_at=self._clock(),
            waits_for_people=waits_for_people,
        )
        return self._wait(question, expected, check, on_hindered)

    def ask_each(
        self,
        requests: Mapping[str, Request],
        expected: type[R],
        patience: Patience,
        *,
        check: Callable[[str, R], None] = lambda _site, _reply: None,
        on_hindered: Callable[[str, Refusal], None] = _nobody_is_told,
    ) -> Outcome[R]:
        """Ask every site something of its own, of one kind and about one run; else as `ask`.

        Args:
            requests: what to ask whom; at least one.
            expected: as for `ask`.
            patience: as for `ask`.
            check: as for `ask`.
            on_hindered: as for `ask`.
        """
        one = next(iter(requests.values()))
        question: Question[R] = Question(
            SealedRequests(requests, self.signer),
            one.run_id,
            _kind(one),
            patience,
            asked_at=self._clock(),
        )
        return self._wait(question, expected, check, on_hindered)

    def _wait(
        self,
        question: Question[R],
        expected: type[R],
        check: Callable[[str, R], None],
        on_hindered: Callable[[str, Refusal], None],
    ) -> Outcome[R]:
        state, met_at = RoundState.OPEN, question.asked_at
        while state not in CLOSED_ROUND_STATES:
            for site in question.open_sites - self.sites.keys.keys():
                question.rejections[site] = Rejection.REVOKED
            self._send(question)
            come = self._poll(question)
            for answer in come:
                if answer.site in question.open_sites:
                    self._take(answer, expected, question, check, on_hindered)
                elif question.came_again(answer.site, answer.envelope):
                    self._log.error("answer_changed", site=answer.site, kind=question.kind)
            event = question.event(state, met_at=met_at, now=self._clock())
            if event is not None:
                state, met_at = advance_round(state, event), self._clock()
            elif not come and not question.waiting:
                self._sleep(min(RETRY_SECONDS, question.patience.deadline_seconds) / 10)
        return question.outcome(has_quorum=state is RoundState.COMPLETE)

    def _send(self, question: Question[R]) -> None:
        for sites, seconds in question.due(self._clock()):
            pending = self._exchange.send(
                {site: question.requests.envelope(site, self._versions.of(site)) for site in sites},
                message_type=question.kind,
                ttl_seconds=seconds,
            )
            question.waiting.append(pending)

    def _poll(self, question: Question[R]) -> list[Answer]:
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
        question: Question[R],
        check: Callable[[str, R], None],
        on_hindered: Callable[[str, Refusal], None],
    ) -> None:
        site = answer.site
        match answer.error:
            case AnswerError.UNREACHABLE:
                question.was_unreachable(site, self._clock())
                return
            case AnswerError.LATE:
                # The message's time was over, or a clock was set, or a database was put back.
                question.was_lost(site, self._clock())
                return
        try:
            envelope, reply = self._open(answer, question.run_id, expected)
            match reply:
                case Refused(run_id=""):
                    question.ask_again(site)
                case Refused(refusal=refusal) if question.waits_for(refusal):
                    if question.is_hindered(site, refusal, self._clock()):
                        self._log.info("site_hindered", site=site, refusal=refusal.value)
                        on_hindered(site, refusal)
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
        except WireVersionError as error:
            raise ImplausibleError(Rejection.WIRE_VERSION, str(error)) from None
        except UnreadableError as error:
            is_finite = error.refusal is not Refusal.NOT_FINITE
            rejection = Rejection.MALFORMED if is_finite else Rejection.NONFINITE
            raise ImplausibleError(rejection, str(error)) from None
        if opened.sender != answer.site:
            raise ImplausibleError(Rejection.BAD_SIGNATURE, "another site's signature")
        if self._versions.learn(answer.site, opened):
            return answer.envelope, Refused("", Refusal.MALFORMED)
        if opened.message.run_id != run_id:
            raise ImplausibleError(Rejection.MALFORMED, "an answer for another run")
        if not isinstance(opened.message, expected | Refused):
            raise ImplausibleError(Rejection.MALFORMED, "another kind of answer")
        return answer.envelope, opened.message


def _kind(request: Request) -> str:
    return f"query.{type(request).__name__.lower()}"
