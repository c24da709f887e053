"""Test database creation on MySQL and MariaDB."""

from __future__ import annotations

from django.db.backends.mysql import creation

from pooling.backends.creation import PooledDatabaseCreation


class DatabaseCreation(PooledDatabaseCreation, creation.DatabaseCreation):
    """Django's, which releases the pools' sessions first."""
