"""Tables that change from version to version, by Alembic: forward only, with a backup first.

A fresh database gets today's tables at once; an older one is brought there revision by revision;
one that was made before there were revisions is what the first of them describes. What must stay
true: a database that a newer version made is refused and left alone, nothing is changed in a file
before a copy of it is on disk, and an upgrade that breaks off, wherever that is, changed nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from sordino_protocols.errors import IntegrityError

VERSIONS_TABLE = "alembic_version"
_VERSIONS = sa.Table(
    VERSIONS_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True)
)


@dataclass(frozen=True, slots=True)
class Migrations:
    """What one kind of database went through.

    Attributes:
        scripts: directory of Alembic's `env.py` and `versions/`.
        tables: as they are now.
        baseline: the revision that describes a database from before there were revisions.
        head: the newest revision; `tables` are what it leaves.
    """

    scripts: Path
    tables: sa.MetaData
    baseline: str
    head: str

    def revision(self, connection: sa.Connection) -> str | None:
        """Where a database is; None if it is empty."""
        present = set(sa.inspect(connection).get_table_names())
        if VERSIONS_TABLE in present:
            found: str | None = connection.execute(sa.select(_VERSIONS.c.version_num)).scalar()
            if found is not None:
                return found
        return self.baseline if present & set(self.tables.tables) else None

    def is_at_head(self, connection: sa.Connection) -> bool:
        """Whether a database has today's tables."""
        return self.revision(connection) == self.head

    def bring_to_head(
        self,
        connection: sa.Connection,
        *,
        place: str,
        back_up: Callable[[str], object] = lambda _revision: None,
    ) -> None:
        """Make or change the tables. For whoever may write: it counts when they commit.

        Args:
            connection: to the database.
            place: where that is, for errors.
            back_up: keeps a copy before anything that is there is changed; told the revision.

        Raises:
            IntegrityError: a newer version of this software made the database.
        """
        found = self.revision(connection)
        if found is None:
            self.tables.create_all(connection)
        elif found != self.head:
            self._require_known(found, place)
            back_up(found)
            _begin(connection)
            self._stamp(connection, found)
            self._upgrade(connection)
        self._stamp(connection, self.head)

    def _require_known(self, revision: str, place: str) -> None:
        paths = (self.scripts / "versions").glob("revision_*.py")
        known = {path.stem.removeprefix("revision_") for path in paths}
        if revision not in known:
            raise IntegrityError(
                f"{place}: made by a newer version of sordino (tables of revision {revision}; this"
                f" one knows {', '.join(sorted(known))}): install that version; nothing was changed"
            )

    def _stamp(self, connection: sa.Connection, revision: str) -> None:
        _VERSIONS.create(connection, checkfirst=True)
        rows = connection.execute(sa.select(_VERSIONS.c.version_num)).scalars().all()
        if rows != [revision]:
            connection.execute(sa.delete(_VERSIONS))
            connection.execute(sa.insert(_VERSIONS), {"version_num": revision})

    def _upgrade(self, connection: sa.Connection) -> None:
        # Only where there is something to change: it takes half a second to import.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("path_separator", "os")
        config.set_main_option("script_location", str(self.scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, self.head)


def _begin(connection: sa.Connection) -> None:
    """Have all that follows be one transaction, on disk whole or not at all."""
    if connection.dialect.name == "sqlite":
        # Python's module begins one before rows are changed, and none before tables are.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
