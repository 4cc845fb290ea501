"""What a site's metrics read when somebody looks."""

import threading
import time
from collections.abc import Callable, Iterable

import structlog

from sordino_client.admission import SiteState
from sordino_client.admitted import AdmittedRun, AdmittedRuns
from sordino_client.approval_desk import ApprovalDesk
from sordino_client.ledger import Ledger
from sordino_client.metrics import SiteMetrics
from sordino_client.site import Site
from sordino_protocols.errors import IntegrityError, UnreachableError

_VERIFY_SECONDS = 60.0
_VERIFY_SHARE = 100.0  # of the time, at most one part in so many goes into reading the chain


class LedgerWatch:
    """Whether the ledger's chain holds on disk: read again now and then, when somebody looks.

    Opening the ledger has verified it, so it counts as whole until a reading says otherwise; one
    that the storage did not allow says nothing. What was found broken once stays so.

    Attributes:
        reading: the thread that reads, or read last.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        seconds: float = _VERIFY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._seconds = seconds
        self._clock = clock
        self._due_at = clock() + seconds
        self._is_whole = True
        self.reading: threading.Thread | None = None
        self._log = structlog.get_logger(component="vault")

    def is_whole(self) -> bool:
        """What the last reading found; starts the next one, beside, if it is due."""
        is_free = self.reading is None or not self.reading.is_alive()
        if self._is_whole and is_free and self._clock() >= self._due_at:
            self.reading = threading.Thread(target=self.read, name="ledger-watch", daemon=True)
            self.reading.start()
        return self._is_whole

    def read(self) -> None:
        """Read the whole chain now; nothing is charged meanwhile."""
        begun = self._clock()
        try:
            self._ledger.verify()
        except IntegrityError as error:
            self._is_whole = False
            self._log.error("ledger_tampered", reason=str(error))
        except UnreachableError as error:
            self._log.warning("ledger_unread", reason=str(error))
        took = self._clock() - begun
        self._due_at = self._clock() + max(self._seconds, _VERIFY_SHARE * took)


def watch_site(
    metrics: SiteMetrics,
    state: SiteState,
    desk: ApprovalDesk,
    site: Site,
    *,
    name: str,
    watch: LedgerWatch,
    datasets: Iterable[str],
) -> None:
    """Show budgets, ledger, policy, running jobs and what waits for people as they are then."""
    ledger, runs = state.ledger, state.runs
    metrics.watch_requests(datasets, lambda run_id: _dataset_of(runs.get(run_id)))
    metrics.watch("sordino_ledger_entries_total", lambda: ledger.length)
    metrics.watch("sordino_ledger_verify_success", watch.is_whole)
    metrics.watch("sordino_ledger_halted", lambda: ledger.halted is not None)
    metrics.watch("sordino_approvals_waiting", desk.waiting)
    metrics.watch_budgets(site.balances)
    metrics.watch_policy(site.policy_sha256)
    metrics.watch_runs(name, lambda: ledger.costs(_deltas(runs)))


def _deltas(runs: AdmittedRuns) -> dict[str, float]:
    """Of every run that was let in, its job's delta."""
    return {each.run_id: each.job.file.guarantee.delta for each in runs.runs()}


def _dataset_of(run: AdmittedRun | None) -> str | None:
    return None if run is None else run.job.file.job.dataset
