"""The pooled SpatiaLite backend. Needs what `django.contrib.gis` does, and SQLite's extensions."""

from __future__ import annotations

from django.contrib.gis.db.backends.spatialite import base

from pooling.backends.sqlite3.base import PooledSQLite


class DatabaseWrapper(PooledSQLite, base.DatabaseWrapper):
    """Django's SpatiaLite wrapper, leasing its connections from a pool."""
