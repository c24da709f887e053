"""Test databases on SQLite: created and removed with no pool open on them."""

from __future__ import annotations

from django.db.backends.sqlite3 import creation

from pooling.backends.creation import PooledDatabaseCreation


class DatabaseCreation(PooledDatabaseCreation, creation.DatabaseCreation):
    """Django's, with the pools of the file closed first."""
