"""Test databases on SQLite."""

from __future__ import annotations

from django.db.backends.sqlite3 import creation

from pooling.backends.creation import PooledDatabaseCreation


class DatabaseCreation(PooledDatabaseCreation, creation.DatabaseCreation):
    """Django's, without open files of ours in the way."""
