"""What a site may forget of a run that is over: releases that nobody can ask for any more.

A server settles a run when it has everything that it ever wants of it, on its own disk. After that
a site answers no round with anything new, so its stored releases are good for one thing alone: a
server that was put back to an earlier day asks again. They are kept for that as long as the site's
admin says, with the notes for the site's own audit, and then go.

What must stay true: of a run that is not settled nothing goes; and what proves that the ledger is
whole stays for ever, the answers to admission and settling, with which an old copy of the ledger is
found out (`continuity.py`). A release that went is asked for in vain: the answer is a refusal, and
never a second release.
"""

import threading
import time
from dataclasses import dataclass

import structlog

from sordino_client.books import Books
from sordino_client.continuity import ADMISSION, RECEIPT
from sordino_client.ledger import Ledger
from sordino_client.outbox import Outbox
from sordino_client.run_steps import UNMASKED
from sordino_client.witness import WitnessStore

SECONDS_A_DAY = 86_400.0

_LOOK_SECONDS = 3_600.0

_KEPT = frozenset({ADMISSION, RECEIPT, UNMASKED})


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went.

    Attributes:
        runs: of which something went.
        freed: bytes.
    """

    runs: tuple[str, ...]
    freed: int


class Retention:
    """Forgets what is old enough, from time to time, on a thread of its own."""

    def __init__(
        self, outbox: Outbox, witness: WitnessStore, ledger: Ledger, *, keep_days: float
    ) -> None:
        self._outbox = outbox
        self._witness = witness
        self._ledger = ledger
        self._keep_seconds = keep_days * SECONDS_A_DAY
        self._log = structlog.get_logger(component="vault")

    def start(self, stop: threading.Event) -> None:
        """Begin now, and look again every hour until `stop` is set."""
        threading.Thread(target=self._work, args=(stop,), name="retention", daemon=True).start()

    def look(self) -> None:
        """Forget what is old enough now; a disk in trouble is looked at again later."""
        try:
            pruned = prune(
                self._outbox,
                self._witness,
                self._ledger.books,
                older_than_seconds=self._keep_seconds,
                now=time.time(),
            )
        except OSError as error:
            self._log.warning("retention_failed", errno=error.errno)
            return
        for run_id in pruned.runs:
            self._log.info("releases_forgotten", run_id=run_id)

    def _work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.look()
            stop.wait(_LOOK_SECONDS)


def prune(
    outbox: Outbox, witness: WitnessStore, books: Books, *, older_than_seconds: float, now: float
) -> Pruned:
    """Forget the releases of runs that were settled so long ago.

    Args:
        outbox: where they lie.
        witness: what was noted of the same runs.
        books: of the site's ledger; says what is settled.
        older_than_seconds: how long the receipt of a run must have lain there.
        now: Unix time.
    """
    runs, freed = [], 0
    for run_id in outbox.runs():
        run, stored_at = books.runs.get(run_id), outbox.stored_at(run_id, RECEIPT)
        if run is None or not run.is_settled or stored_at is None:
            continue
        if now - stored_at < older_than_seconds:
            continue
        steps = [step for step in outbox.releases(run_id) if step not in _KEPT]
        freed += sum(outbox.forget(run_id, step) for step in steps) + witness.forget(run_id)
        if steps:
            runs.append(run_id)
    return Pruned(tuple(runs), freed)
