"""The tables of the server's database, and where their migrations lie."""

from pathlib import Path

import sqlalchemy as sa

from sordino_protocols.migrations import Migrations

_METADATA = sa.MetaData()

FILES = sa.Table(
    "files",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("stamp", sa.String(32), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""Whole files, cut into parts."""

LINES = sa.Table(
    "lines",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""Logs, line by line; each with its place in the log, in bytes."""

MIGRATIONS = Migrations(
    scripts=Path(__file__).parent / "migrations",
    tables=_METADATA,
    baseline="0001",
    head="0001",
)
