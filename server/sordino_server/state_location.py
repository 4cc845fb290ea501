"""Where a server's runs and remembered heads lie: in its state directory, or in a database."""

from pathlib import Path

from sordino_protocols.audit_log import AuditLog
from sordino_protocols.databases import read_database_url
from sordino_protocols.signing import TrustStore
from sordino_server.config import ServerConfig
from sordino_server.database_storage import Database, DatabaseStorage
from sordino_server.heads import HeadStore
from sordino_server.runs import Runs
from sordino_server.storage import DirectoryStorage, Storage

RUNS, HEADS = "runs", "heads"


def open_state(config: ServerConfig) -> Storage:
    """The storage of a server's state, ready to be read and written.

    Raises:
        NotFoundError: the file with the database's URL is not there.
        InputError: others may read it, or it holds no URL of PostgreSQL.
        IntegrityError: the database forgets what was committed, or a newer version made it.
        UnreachableError: it does not answer.
    """
    url_file = config.server.state_url_file
    if url_file is None:
        return DirectoryStorage(config.server.state)
    return open_database(url_file)


def open_database(url_file: Path) -> DatabaseStorage:
    """The storage in the database whose URL a file holds; raises as `open_state` does."""
    database = Database(read_database_url(url_file))
    database.open()
    return DatabaseStorage(database)


def is_state_at_head(config: ServerConfig) -> bool:
    """Whether the database's tables are those of this version; files in a directory always are.

    Raises:
        NotFoundError: the file with the database's URL is not there.
        InputError: others may read it, or it holds no URL of PostgreSQL.
        UnreachableError: the database does not answer.
    """
    if config.server.state_url_file is None:
        return True
    database = Database(read_database_url(config.server.state_url_file))
    try:
        return database.is_at_head()
    finally:
        database.close()


def runs_in(state: Storage) -> Runs:
    """The runs of a server."""
    return Runs(state.within(RUNS))


def heads_in(state: Storage, sites: TrustStore, *, audit_log: AuditLog | None = None) -> HeadStore:
    """What a server remembers of its sites' ledgers.

    Args:
        state: of the server.
        sites: whose signatures count.
        audit_log: of the server, for whoever shows it to the sites and notes theirs.
    """
    return HeadStore(state.within(HEADS), sites, audit_log=audit_log)
