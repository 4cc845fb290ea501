"""Backup and restore of a server's state: runs, remembered heads, the SuperLink's database.

Taken while the server runs or not. What must stay true of a backup: each run in it is as a crash
could have left it, so that it resumes. A server that was restored from an old backup asks its sites
for what they have answered already, and gets the same bytes.

Runs in a PostgreSQL database are not in it: `pg_dump` takes one snapshot of them all.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sordino_protocols.archives import Manifest, Member, put_in_place, unpacked, write_archive
from sordino_protocols.audit_log import read_together
from sordino_protocols.errors import NotFoundError, UnreachableError
from sordino_protocols.sqlite_copies import copy_database
from sordino_server.config import ServerConfig
from sordino_server.ports import PORTS

_AUDIT_LOG = "audit.log"
_RUNS = "runs"
_HEADS = "heads"
_EVENTS = "events.jsonl"
_DATABASE = "superlink/superlink.db"
# What a restarted server makes anew, or must not take from an earlier one.
_APART = (PORTS, _DATABASE, f"{_DATABASE}-wal", f"{_DATABASE}-shm", f"{_DATABASE}-journal")
_MOST_TRIES = 20


def back_up_server(config: ServerConfig, path: Path, *, now: dt.datetime) -> Manifest:
    """Write a backup of a server's state to a file.

    Raises:
        NotFoundError: the server has not run yet.
        UnreachableError: a run moves on faster than it can be copied.
        InputError: there is such a file already, or it cannot be written to.
    """
    state = config.server.state
    if not state.is_dir():
        raise NotFoundError(f"{state}: no state; has the server run yet?")
    with TemporaryDirectory(dir=path.absolute().parent, prefix=".backing-up-") as place:
        members = _members(state, Path(place))
        note = f"{len(_runs(state))} runs"
        if config.server.state_url_file is not None:
            note = "runs and heads are in the database: back that up with pg_dump"
        name = config.server.name
        return write_archive(path, members, kind="server", name=name, note=note, now=now)


def restore_server(config: ServerConfig, path: Path) -> Manifest:
    """Put a backup back where nothing lies.

    Raises:
        NotFoundError: there is no such backup.
        InputError: it is of another server, or something lies there already.
        IntegrityError: it is not as it was written.
    """
    state = config.server.state
    with unpacked(path, kind="server", name=config.server.name, beside=state) as (manifest, place):
        put_in_place(place, state)
    return manifest


def _members(state: Path, place: Path) -> Iterator[Member]:
    """One after the other, since models are large. The order is that in which they depend.

    Within a run it is by name, so that a checkpoint is copied before the readings that the server
    wrote before it; heads come last: a newer one than a run has seen takes nothing from anybody.
    """
    yield from _superlink(state, place)
    for run in _runs(state):
        yield from _copy_run(state, run)
    yield from _others(state)
    yield from _files(state, state / _HEADS)


def _runs(state: Path) -> list[Path]:
    return sorted(each for each in (state / _RUNS).glob("[!.]*") if each.is_dir())


def _copy_run(state: Path, run: Path) -> list[Member]:
    """A run's files at one moment: copied again if its log grew meanwhile."""
    for _ in range(_MOST_TRIES):
        before = _length(run / _EVENTS)
        members = list(_files(state, run))
        if _length(run / _EVENTS) == before:
            return members
    raise UnreachableError(f"{run}: moves on faster than it can be copied; try again")


def _length(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _others(state: Path) -> Iterator[Member]:
    """What lies beside the runs, in the same directory or elsewhere."""
    log = read_together(state / _AUDIT_LOG)
    yield from (Member(name, content) for name, content in log.items())
    apart = {*_runs(state), state / _HEADS}
    for path in sorted(state.rglob("*")):
        if path.name not in log and not any(path.is_relative_to(each) for each in apart):
            yield from _file(state, path)


def _files(state: Path, folder: Path) -> Iterator[Member]:
    for path in sorted(folder.rglob("*")):
        yield from _file(state, path)


def _file(state: Path, path: Path) -> Iterator[Member]:
    """The file, if it is one that belongs into a backup."""
    name = path.relative_to(state)
    # A name with a dot in front is of a file that is being written.
    is_whole = not any(part.startswith(".") for part in name.parts)
    if is_whole and path.is_file() and not path.is_symlink() and name.as_posix() not in _APART:
        yield Member(name.as_posix(), path.read_bytes())


def _superlink(state: Path, place: Path) -> Iterator[Member]:
    if (state / _DATABASE).is_file():
        copy = place / "superlink.db"
        copy_database(state / _DATABASE, copy)
        yield Member(_DATABASE, copy.read_bytes())
