"""Migrations of the database, for Alembic; see `sordino_protocols.migrations`."""
