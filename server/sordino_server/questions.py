"""What the sites of one run are asked: with the job's patience, and remembering what they signed.

What must stay true: before a run asks a site for anything, the site has shown that its ledger goes
on from the newest head that the server remembers of it; and every head that a site signs is
remembered before its answer counts. A site that cannot show it, or shows another history, is left
out, and the run's log says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from sordino_protocols.errors import AuthenticationError, ExitCode, SordinoError
from sordino_protocols.heads import SignedHead
from sordino_protocols.messages import (
    Admit,
    Described,
    Quote,
    Recall,
    Recalled,
    Receipt,
    Refusal,
    Refused,
    Reply,
    Request,
    Settle,
)
from sordino_server.answers import DISHONEST, ImplausibleError, Outcome, Patience, Rejection
from sordino_server.decisions import Decisions
from sordino_server.heads import ContradictionError, HeadStore
from sordino_server.reasons import explain
from sordino_server.runs import RunDirectory
from sordino_server.strategy import Strategy

_WINDING_UP_PATIENCE = Patience(quorum=1, deadline_seconds=10.0, grace_seconds=10.0)

R = TypeVar("R", bound=Reply)


class FailureCause(StrEnum):
    """Why a run failed, in a word: a label of `sordino_runs_total`."""

    NO_QUORUM = "no_quorum"
    IMPOSSIBLE = "impossible"
    CRASHED = "crashed"
    OTHER = "other"


class RunFailedError(SordinoError):
    """The run cannot go on. The text says why, in words for the data scientist.

    Attributes:
        cause: the same in a word.
    """

    exit_code = ExitCode.REFUSED

    def __init__(self, reason: str, *, cause: FailureCause = FailureCause.OTHER) -> None:
        super().__init__(reason)
        self.cause = cause


class Questions:
    """Asks the sites of one run."""

    def __init__(
        self,
        run: RunDirectory,
        strategy: Strategy,
        heads: HeadStore,
        *,
        decisions: Decisions | None = None,
    ) -> None:
        """Ask about a run.

        Args:
            run: which.
            strategy: asks.
            heads: what is remembered of the sites' ledgers.
            decisions: told of answers that no honest site would give; None for a server that keeps
                no audit log.
        """
        self._decisions = decisions
        self._rejected: set[tuple[str, Rejection]] = set()
        self._run = run
        self._strategy = strategy
        self._heads = heads
        self._signed = run.manifest().job
        wanted = run.job().file.cohort
        self._patience = Patience(wanted.quorum, wanted.deadline_seconds, wanted.grace_seconds)

    def ask(
        self,
        cohort: Sequence[str],
        request: Request,
        expected: type[R],
        *,
        check: Callable[[str, R], None],
        quorum: int | None = None,
    ) -> Outcome[R]:
        """Ask with the job's patience; who must wait for a person's approval is logged.

        Args:
            cohort: whom to ask.
            request: what.
            expected: the type of answer.
            check: raises `ImplausibleError` for an answer that must not count.
            quorum: how many must answer; None: the job's quorum.

        Raises:
            RunFailedError: the quorum did not answer; says what each site did instead.
        """
        patience = replace(self._patience, quorum=quorum or self._patience.quorum)
        outcome = self._strategy.ask(
            cohort,
            request,
            expected,
            patience,
            check=self._remembering(check),
            on_hindered=self._log_hindered,
            waits_for_people=isinstance(request, Admit),
        )
        for site in sorted(outcome.changed):
            self._run.record("answer_changed", site=site, question=type(request).__name__)
        self._note_rejections(outcome.rejections)
        if not outcome.has_quorum:
            done = f"answered {type(request).__name__}"
            raise self._failed(
                cohort, len(outcome.answers), done, silences(outcome), quorum=patience.quorum
            )
        return outcome

    def recall(self, cohort: Sequence[str]) -> list[str]:
        """Leave out the sites whose ledger does not go on from what the server remembers of it.

        Raises:
            RunFailedError: fewer than the quorum are left; says what each of the others did.
        """
        left_out = silences(self.recall_with(cohort, self._patience))
        left = [site for site in cohort if site not in left_out]
        if len(left) < self._patience.quorum:
            done = "showed that their ledgers are whole"
            quorum = self._patience.quorum
            raise self._failed(cohort, len(left), done, left_out, quorum=quorum)
        return left

    def recall_with(self, cohort: Sequence[str], patience: Patience) -> Outcome[Recalled]:
        """Ask every site of which a head is remembered to go on from it.

        Whoever of them does not answer is to be left out, and is named in the run's log.
        """
        remembered = {site: self._heads.get(site) for site in cohort}
        requests = {
            site: Recall(self._run.run_id, head, *self._heads.own_audit_head)
            for site, head in remembered.items()
            if head is not None
        }
        if not requests:
            return Outcome({}, {}, {}, {}, has_quorum=True)
        # Whoever is not known yet counts too, and is asked nothing here.
        quorum = max(patience.quorum - (len(cohort) - len(requests)), 1)
        outcome = self._strategy.ask_each(
            requests,
            Recalled,
            Patience(quorum, patience.deadline_seconds, patience.grace_seconds),
            check=self._remembering(lambda _site, _reply: None),
            on_hindered=self._log_hindered,
        )
        for site, why in sorted(silences(outcome).items()):
            self._run.record("left_out", site=site, reason=why)
        return outcome

    def release_holds(self, sites: Sequence[str]) -> dict[str, str]:
        """Tell sites that the run is over for them. Returns who may hold budget still, and why."""
        if not sites or self._signed.purpose in {"price", "mock"}:
            return {}
        request = Settle(self._run.run_id, self._signed.digest)
        check = self._remembering(lambda _site, _reply: None)
        outcome = self._strategy.ask(sites, request, Receipt, _WINDING_UP_PATIENCE, check=check)
        return {site: why for site, why in silences(outcome).items() if why != Refusal.NOT_ADMITTED}

    def _note_audit_log(self, site: str, reply: Recalled | Receipt) -> None:
        """A site whose log was rewritten is named; its releases are no worse for that."""
        head, is_fresh = (reply.audit_length, reply.audit_head), isinstance(reply, Recalled)
        if not self._heads.note_audit_log(site, head, is_fresh=is_fresh):
            self._run.record("audit_log_rewritten", site=site, entries=reply.audit_length)

    def _remembering(self, check: Callable[[str, R], None]) -> Callable[[str, R], None]:
        """The check, and then: what the site signed of its ledger is kept, or contradicts it."""

        def checked(site: str, reply: R) -> None:
            check(site, reply)
            head = _head_of(reply)
            if head is None:
                return
            try:
                # Any other answer may be a repeated one, with the head of its time.
                self._heads.note(site, head, is_fresh=isinstance(reply, Recalled))
            except ContradictionError as error:
                raise ImplausibleError(Rejection.INTEGRITY, str(error)) from None
            except AuthenticationError as error:
                raise ImplausibleError(Rejection.BAD_SIGNATURE, str(error)) from None
            if isinstance(reply, Recalled | Receipt):
                self._note_audit_log(site, reply)

        return checked

    def _note_rejections(self, rejections: Mapping[str, Rejection]) -> None:
        """Once a site and reason: a site that goes on and on fills no disk."""
        for site, why in sorted(rejections.items()):
            if self._decisions is None or why not in DISHONEST or (site, why) in self._rejected:
                continue
            self._rejected.add((site, why))
            self._decisions.rejected(self._run.run_id, site, why.value)

    def _log_hindered(self, site: str, hindrance: Refusal) -> None:
        if hindrance is Refusal.APPROVAL_PENDING:
            self._run.record("waiting_for_approval", site=site)
        else:
            self._run.record("waiting_for_site", site=site, reason=explain(hindrance.value))

    def _failed(
        self, cohort: Sequence[str], count: int, done: str, others: dict[str, str], *, quorum: int
    ) -> RunFailedError:
        reasons = "; ".join(f"{site}: {explain(why)}" for site, why in sorted(others.items()))
        return RunFailedError(
            f"{count} of {len(cohort)} sites {done}; the job needs {quorum} ({reasons})",
            cause=FailureCause.NO_QUORUM,
        )


def silences(outcome: Outcome[R]) -> dict[str, str]:
    """What the sites without an answer did instead."""
    refused = {site: each.value for site, each in outcome.refusals.items()}
    return refused | {site: each.value for site, each in outcome.rejections.items()}


def _head_of(reply: Reply) -> SignedHead | None:
    return None if isinstance(reply, Described | Quote | Refused) else reply.ledger_head
