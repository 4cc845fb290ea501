"""What the sites of one run are asked: with the job's patience, and remembering what they signed.

What must stay true: before a run asks a site for anything, the site has shown that its ledger goes
on from the newest head that the server remembers of it; and every head that a site signs is
remembered before its answer counts. A site that cannot show it, or shows another history, is left
out, and the run's log says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from sordino_server.heads import ContradictionError, HeadStore
from sordino_server.runs import RunDirectory
from sordino_server.strategy import ImplausibleError, Outcome, Patience, Rejection, Strategy

_WINDING_UP_PATIENCE = Patience(quorum=1, deadline_seconds=10.0, grace_seconds=10.0)

R = TypeVar("R", bound=Reply)


class RunFailedError(SordinoError):
    """The run cannot go on. The text says why, in words for the data scientist."""

    exit_code = ExitCode.REFUSED


class Questions:
    """Asks the sites of one run."""

    def __init__(self, run: RunDirectory, strategy: Strategy, heads: HeadStore) -> None:
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
            on_approval_pending=self._log_waiting if isinstance(request, Admit) else None,
        )
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
            site: Recall(self._run.run_id, head)
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

        return checked

    def _log_waiting(self, site: str) -> None:
        self._run.record("waiting_for_approval", site=site)

    def _failed(
        self, cohort: Sequence[str], count: int, done: str, others: dict[str, str], *, quorum: int
    ) -> RunFailedError:
        reasons = ", ".join(f"{site}: {why}" for site, why in sorted(others.items()))
        return RunFailedError(
            f"{count} of {len(cohort)} sites {done}; the job needs {quorum} ({reasons})"
        )


def silences(outcome: Outcome[R]) -> dict[str, str]:
    """What the sites without an answer did instead."""
    refused = {site: each.value for site, each in outcome.refusals.items()}
    return refused | {site: each.value for site, each in outcome.rejections.items()}


def _head_of(reply: Reply) -> SignedHead | None:
    return None if isinstance(reply, Described | Quote | Refused) else reply.ledger_head
