"""Test database creation on PostgreSQL."""

from __future__ import annotations

from django.db.backends.postgresql import creation

from pooling.backends.creation import PooledDatabaseCreation


class DatabaseCreation(PooledDatabaseCreation, creation.DatabaseCreation):
    """Django's, which releases the pools' sessions first."""
