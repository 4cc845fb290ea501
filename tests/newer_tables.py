"""The tables of a version to come: those of today, two revisions on.

What upgrades are tried on: so far no version has had other tables than the first one.
"""

import shutil
from pathlib import Path

import sqlalchemy as sa

from sordino_protocols.migrations import Migrations

FIRST, SECOND = "0998", "0999"
"""The revisions: each adds a column, with a default."""

_REVISION = '''"""One column more."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    """Add it."""
    op.add_column("{table}", sa.Column("{column}", sa.Text, server_default="none"))
'''

_BROKEN = '    raise OSError("the power went")\n'


def newer_tables(
    today: Migrations, directory: Path, *, table: str, breaks_off: bool = False
) -> Migrations:
    """What a version after this one may have.

    Args:
        today: what this version has.
        directory: for the scripts; there must be none yet.
        table: that gets the columns.
        breaks_off: whether the second revision fails once it has added its column.
    """
    shutil.copytree(today.scripts, directory)
    steps = ((today.head, FIRST, "note"), (FIRST, SECOND, "colour"))
    tables = sa.MetaData()
    for each in today.tables.sorted_tables:
        each.to_metadata(tables)
    for before, revision, column in steps:
        text = _REVISION.format(revision=revision, before=before, table=table, column=column)
        is_broken = breaks_off and revision == SECOND
        path = directory / "versions" / f"revision_{revision}.py"
        path.write_text(text + _BROKEN if is_broken else text)
        tables.tables[table].append_column(sa.Column(column, sa.Text, server_default="none"))
    return Migrations(scripts=directory, tables=tables, baseline=today.baseline, head=SECOND)
