"""Two audit logs that hold each other: each notes the other's head, as an entry of its own.

A log that was rewritten as a whole is a perfect chain; only somebody who kept an older head can
tell. So each side shows its head with what it sends, signed with the message, and the other side
records it: to change what a site has decided, site and server would both have to rewrite their
logs. What must stay true: what was shown once stays on record, also what contradicts it.
"""

from collections.abc import Sequence

from sordino_protocols.audit_log import AuditEntry, AuditLog
from sordino_protocols.errors import IntegrityError
from sordino_protocols.heads import GENESIS

ACTION = "head_shown"
FORGOTTEN = "audit_log_forgotten"
"""A person's decision, as an entry: a peer's log may begin anew."""

FITS, CONTRADICTS = "fits", "contradicts"

Head = tuple[int, str]
"""Length of a log, and the hash of its newest entry."""


def note_head(log: AuditLog, *, peer: str, head: Head, is_fresh: bool) -> bool:
    """Record the head of a peer's log, unless it is the one that was recorded last.

    It is compared with what the peer showed since a person last let its log begin anew.

    Args:
        log: our own.
        peer: whose log it is; who signed the message that showed it.
        head: as it was shown.
        is_fresh: the message was made just now. An answer that is repeated shows an older head,
            which proves nothing; a shorter log in a fresh one proves that entries are gone.

    Returns:
        whether it fits what the peer showed before.

    Raises:
        IntegrityError: our own log was changed.
        UnreachableError: it cannot be written.
    """
    length, newest = head
    if (length == 0) != (newest == GENESIS):
        return False
    shown = _shown(_unexplained(log.entries, peer), peer)
    fitting = [each for each, decision in shown if decision == FITS]
    if length == 0 and not fitting:
        return True
    is_fork = any(each != newest for known, each in fitting if known == length)
    is_shorter = is_fresh and bool(fitting) and length < max(fitting)[0]
    decision = CONTRADICTS if is_fork or is_shorter else FITS
    if (head, decision) not in shown:
        log.record(
            actor=peer,
            action=ACTION,
            object=str(length),
            decision=decision,
            reason=newest,
            policy_sha256=None,
        )
    return decision == FITS


def heads_shown(entries: Sequence[AuditEntry], peer: str) -> list[Head]:
    """Every head that a peer ever showed, as our log has it."""
    return [head for head, _ in _shown(entries, peer)]


def _shown(entries: Sequence[AuditEntry], peer: str) -> list[tuple[Head, str]]:
    return [
        ((int(each.object), each.reason), each.decision)
        for each in entries
        if each.action == ACTION and each.actor == peer and each.object.isdecimal()
    ]


def contradictions(entries: Sequence[AuditEntry]) -> dict[str, int]:
    """Peers whose log did not go on from what they had shown, and how often that was seen.

    What was seen before a person let a peer's log begin anew is explained, and does not count.
    """
    found: dict[str, int] = {}
    for each in entries:
        if each.action == ACTION and each.decision == CONTRADICTS:
            found[each.actor] = found.get(each.actor, 0) + 1
        elif each.action == FORGOTTEN:
            found.pop(each.object, None)
    return found


def _unexplained(entries: Sequence[AuditEntry], peer: str) -> Sequence[AuditEntry]:
    """The entries since a person last let a peer's log begin anew."""
    explained = [
        number
        for number, each in enumerate(entries, start=1)
        if each.action == FORGOTTEN and each.object == peer
    ]
    return entries[explained[-1] if explained else 0 :]


def check_heads(entries: Sequence[AuditEntry], shown: Sequence[Head], *, whose: str) -> None:
    """Return if a log goes through every head that its owner showed.

    Args:
        entries: of the log, verified.
        shown: heads that somebody else recorded.
        whose: the log's owner, for the error.

    Raises:
        IntegrityError: it does not; names the first head that is missing.
    """
    for length, newest in shown:
        is_there = length == 0 or (length <= len(entries) and entries[length - 1].hash == newest)
        if not is_there:
            raise IntegrityError(
                f"the audit log of {whose} was rewritten: it once had {length} entries and the"
                f" head {newest[:12]}, and does not go through that now"
            )
