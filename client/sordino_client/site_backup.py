"""Backup and restore of a site: ledger, outbox, admitted runs, approvals, audit log, split key.

Taken while the vault runs or not. What must stay true of a backup: the ledger in it knows of every
release in it, unless the real one did not either; so a restored site is one that lost its newest
hours, and nothing else. Nobody gets budget back by that: whoever remembers a newer head of the
ledger - the server, the auditor - refuses the site until its admin has recovered the ledger, which
charges what may have been lost.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sordino_client.books import Books
from sordino_client.chain import Walk
from sordino_client.chain_store import Location, open_store, read_rows
from sordino_client.config import SiteConfig
from sordino_client.continuity import missing_entries
from sordino_client.ledger_location import ledger_location
from sordino_client.outbox import SUFFIX, Outbox
from sordino_protocols.archives import Manifest, Member, put_in_place, unpacked, write_archive
from sordino_protocols.audit_log import AuditLog, read_together
from sordino_protocols.errors import InputError
from sordino_protocols.sqlite_copies import copy_database

_AUDIT_LOG = "audit.log"
_LEDGER = "ledger.db"
_OUTBOX = "outbox"
# The ledger is copied as a database, and its lock is of a process.
_APART = (_LEDGER, f"{_LEDGER}-wal", f"{_LEDGER}-shm", f"{_LEDGER}.lock")


def back_up_site(config: SiteConfig, path: Path, *, now: dt.datetime) -> Manifest:
    """Write a backup of a site's state to a file. It holds secrets: the split's key, coins.

    Raises:
        NotFoundError: the vault has not run yet.
        IntegrityError: the ledger does not hold together; it is to be looked at, not copied.
        UnreachableError: the ledger's database does not answer.
        InputError: there is such a file already, or it cannot be written to.
    """
    state = config.site.state
    with TemporaryDirectory(dir=path.absolute().parent, prefix=".backing-up-") as place:
        # What was released before the ledger is copied must be in the ledger. What comes later may
        # be too new for it, and is then no loss either: it stays out.
        before = _releases(state)
        ledger = Path(place) / _LEDGER
        _copy_ledger(ledger_location(config), ledger)
        walk = Walk()
        books = _books(walk, ledger)
        # Listed before they are judged: what comes after the list is judged by nobody.
        listed = _releases(state)
        too_new = set(missing_entries(books, Outbox(state / _OUTBOX))) - before
        members = [Member(_LEDGER, ledger.read_bytes()), *_members(state, listed - too_new)]
    note = f"ledger of {walk.length} entries, head {walk.head}"
    return write_archive(path, members, kind="site", name=config.site.name, note=note, now=now)


def restore_site(config: SiteConfig, path: Path, *, now: dt.datetime) -> Manifest:
    """Put a backup back where nothing lies: an empty state directory, an empty database.

    Raises:
        NotFoundError: there is no such backup.
        InputError: it is of another site, or something lies there already.
        IntegrityError: it is not as it was written.
    """
    state, location = config.site.state, ledger_location(config)
    with unpacked(path, kind="site", name=config.site.name, beside=state) as (manifest, place):
        ledger = place / _LEDGER
        if not isinstance(location, Path):
            _load(location, ledger)
            ledger.unlink()
        put_in_place(place, state)
    AuditLog(config.audit_log_path, now=lambda: now).record(
        actor="admin",
        action="restored",
        object="state",
        decision="",
        reason=f"from the backup of {manifest.taken}: {manifest.note}",
        policy_sha256=None,
    )
    return manifest


def _copy_ledger(location: Location, copy: Path) -> None:
    if isinstance(location, Path):
        copy_database(location, copy)
        return
    store = open_store(copy)
    try:
        for _ in store.rows():
            pass
        for row in read_rows(location):
            store.append(row)
    finally:
        store.close()


def _load(location: Location, ledger: Path) -> None:
    """Fill an empty database."""
    store = open_store(location)
    try:
        if any(True for _ in store.rows()):
            raise InputError("the ledger's database is not empty; a restore overwrites nothing")
        for row in read_rows(ledger):
            store.append(row)
    finally:
        store.close()


def _books(walk: Walk, ledger: Path) -> Books:
    books = Books()
    for entry in walk.verified(read_rows(ledger)):
        books.apply(entry)
    return books


def _releases(state: Path) -> set[str]:
    outbox = Outbox(state / _OUTBOX)
    return {f"{run}/{step}" for run in outbox.runs() for step in outbox.releases(run)}


def _members(state: Path, releases: Iterable[str]) -> Iterator[Member]:
    """All that is ours in the state directory; of the outbox, these releases."""
    kept = {f"{_OUTBOX}/{release}{SUFFIX}" for release in releases}
    log = read_together(state / _AUDIT_LOG)
    yield from (Member(name, content) for name, content in log.items())
    for path in sorted(state.rglob("*")):
        name = path.relative_to(state)
        # A name with a dot in front is of a file that is being written.
        is_whole = not any(part.startswith(".") for part in name.parts)
        is_apart = name.as_posix() in (*_APART, *log)
        is_ours = path.is_file() and not path.is_symlink() and not is_apart
        is_too_new = name.parts[0] == _OUTBOX and name.as_posix() not in kept
        if is_whole and is_ours and not is_too_new:
            yield Member(name.as_posix(), path.read_bytes())
