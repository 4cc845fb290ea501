"""Whether the ledger goes on from what the site has done: it is compared with what else is kept.

A ledger whose newest entries are gone, or an old copy of it that was put back, is a chain that
holds. But the outbox keeps what was released, each release after its entry was on disk: a release
whose entry is missing proves that entries are. What must stay true: no order of crashes makes a
release without its entry, so what is found here was never an accident of ours.

If the whole directory was put back, nothing here can show it. Then the server can, which remembers
the newest head that it was shown (`Ledger.contains`); and this site keeps the server's own audit
log from being rewritten, by noting its head.
"""

import datetime as dt
from collections.abc import Callable

import structlog

from sordino_client.books import Books, Run
from sordino_client.chain_store import Location
from sordino_client.ledger import Ledger
from sordino_client.outbox import Outbox
from sordino_client.run_steps import TABLES, UNMASKED
from sordino_protocols.audit_heads import note_head
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.heads import SignedHead, verify_head
from sordino_protocols.messages import Recall
from sordino_protocols.signing import Signer, TrustStore

_log = structlog.get_logger(component="vault")

ADMISSION = "admission"
"""The step whose answer says that a run is held for."""

RECEIPT = "receipt"
"""The step whose answer says that a run is settled."""

_SHOWN = 5


def open_ledger(
    store: Location,
    outbox: Outbox,
    *,
    now: Callable[[], dt.datetime],
    observe_fsync: Callable[[float], None] = lambda _: None,
) -> Ledger:
    """Open a site's ledger, and halt it if the outbox knows of entries that are missing.

    Raises:
        IntegrityError: the chain does not hold, or another process has it open.
        UnreachableError: the database does not answer.
    """
    ledger = Ledger(store, now=now, observe_fsync=observe_fsync)
    try:
        missing = missing_entries(ledger.books, outbox)
        if missing and ledger.halted is None:
            ledger.halt(_explain(missing))
    except BaseException:
        ledger.close()
        raise
    return ledger


def halt_if_behind(ledger: Ledger, remembered: SignedHead, signer: Signer) -> str | None:
    """Halt a ledger that does not go on from a head that the server remembers of it.

    Args:
        ledger: this site's.
        remembered: as the server shows it.
        signer: of this site.

    Returns:
        why it was halted by this very call; None if it was not.

    Raises:
        AuthenticationError: this site never signed the head; it halts nothing.
    """
    verify_head(
        remembered, site=signer.name, trust=TrustStore({signer.name: signer.key.public_key()})
    )
    if ledger.contains(remembered):
        return None
    was_halted = ledger.halted is not None
    reason = f"the server remembers entry {remembered.length}, and it is not here"
    ledger.halt(reason, remembered=remembered)
    return None if was_halted else reason


def note_server_log(log: AuditLog, request: Recall, *, server: str) -> None:
    """Keep the head of the server's audit log in this site's own.

    Raises:
        IntegrityError: this site's log was changed.
        UnreachableError: it cannot be written.
    """
    head = (request.audit_length, request.audit_head)
    if not note_head(log, peer=server, head=head, is_fresh=True):
        # The site's own promise does not rest on it: people must hear of it, and work goes on.
        _log.error("server_rewrote_its_audit_log", server=server, entries=request.audit_length)


def missing_entries(books: Books, outbox: Outbox) -> tuple[str, ...]:
    """The answers, as run/step, that were stored and whose ledger entries are not there.

    What a recovery charged in whole, or a person let go, is accounted for.
    """
    return tuple(
        f"{run_id}/{step}"
        for run_id in outbox.runs()
        if run_id not in books.uncharged
        for step in outbox.releases(run_id)
        if not _has_entry(books.runs.get(run_id), step)
    )


def _has_entry(run: Run | None, step: str) -> bool:
    match step:
        case _ if run is None:
            return False
        case _ if run.is_recovered:
            return True
        case _ if step == ADMISSION:
            return True
        case _ if step == RECEIPT:
            return run.is_settled
        case _ if step == UNMASKED:
            return TABLES in run.reserved
        case _:
            return step in run.reserved


def _explain(missing: tuple[str, ...]) -> str:
    shown = ", ".join(missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"entries are missing: the outbox has {shown}{more}, and the ledger does not know of it"
