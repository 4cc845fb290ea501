"""The SuperLink's database, a SQLite file: kept quick while it is used, and small over the years.

With `superlink`, the only place that knows Flower's tables. What must stay true: only messages of
runs that are over are deleted here; they are nobody's any more, for what a run is made of lies
beside it in the server's own storage.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from flwr.common.constant import Status
from flwr.server.superlink.linkstate import LinkState
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.supercore.state.schema.linkstate_models import MessageIns
from flwr.supercore.state.schema.objectstore_models import RunObject
from flwr.supercore.utils import int64_to_uint64
from sqlalchemy import event, select
from sqlalchemy.engine.interfaces import DBAPIConnection

from sordino_protocols.errors import InputError

_BUSY_MILLISECONDS = 60_000
_CLEAN_SECONDS = 1.0
_MOST_FREE_BYTES = 64 * 1024 * 1024


def compact(path: Path) -> None:
    """Give the disk back what a database that nobody has open does not need any more.

    SQLite keeps the room that messages took for the next ones. Once most of a large file is such
    room, as after a model that was far larger than those of today, the file is written anew. It is
    left as it is where that does not work: the disk may be full.
    """
    if not path.is_file():
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        try:
            free, pages, size = (
                int(database.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("freelist_count", "page_count", "page_size")
            )
            if free * size > _MOST_FREE_BYTES and 2 * free > pages:
                database.execute("VACUUM")
        except sqlite3.Error:
            return


def drop_leftovers(state: LinkState) -> None:
    """Delete the messages of runs that ended while nobody looked: the server was killed just then.

    Raises:
        InputError: the database is no file.
    """
    database = _require_file(state)
    with database.session() as session:
        numbers = {
            int64_to_uint64(number)
            for column in (RunObject.run_id, MessageIns.run_id)
            for number in session.scalars(select(column).distinct())
            if number is not None
        }
    for run in state.get_run_info(run_ids=sorted(numbers), statuses=[Status.FINISHED]):
        state.cleanup_run(run.run_id)


def wait_for_writers(state: LinkState) -> None:
    """Wait a minute for the database instead of 5 s: a model of 400 MB takes seconds to write.

    Raises:
        InputError: the database is no file.
    """
    database, objects = _require_file(state), state.object_store
    if not isinstance(objects, SqlObjectStore):
        raise InputError("the SuperLink's database must be a file")
    for engine in (database._engine, objects._engine):  # noqa: SLF001 - no public way
        if engine is None:
            raise InputError("the SuperLink's database is not open")
        event.listen(engine, "connect", _set_busy_timeout)
        engine.dispose()  # connections made before this keep Flower's 5 s


def look_for_dead_apps_rarely(state: LinkState) -> None:
    """Flower looks for dead server apps, in a transaction of two updates, at nearly every request.

    That was a seventh of the server's time in a round. A second later is early enough: an app is
    dead when it has been silent for much longer than that.

    Raises:
        InputError: the database is no file.
    """
    database = _require_file(state)
    clean = database._cleanup_expired_task_tokens  # noqa: SLF001 - held to by the contract test
    next_at = 0.0

    def clean_rarely() -> None:
        nonlocal next_at
        now = time.monotonic()
        if now >= next_at:
            next_at = now + _CLEAN_SECONDS
            clean()

    database._cleanup_expired_task_tokens = clean_rarely  # type: ignore[method-assign]  # noqa: SLF001


def _require_file(state: LinkState) -> SqlLinkState:
    if not isinstance(state, SqlLinkState):
        raise InputError("the SuperLink's database must be a file")
    return state


def _set_busy_timeout(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    cursor.close()
