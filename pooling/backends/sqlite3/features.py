"""The features of the pooled SQLite backend."""

from __future__ import annotations

import sqlite3

from django.db.backends.sqlite3.features import DatabaseFeatures
from django.utils.functional import cached_property

from pooling.backends import features
from pooling.backends.transaction_scope import is_transaction_scoped

_SCOPE_SKIPS = {
    "With scope='transaction' no connection is held after a query; this test looks at it.": {
        "backends.sqlite.tests.ThreadSharing.test_database_sharing_in_threads",
    },
}


class PooledFeatures(features.PooledFeatures):
    """Mixed into a SQLite engine's features: what asks the connection or does not apply."""

    @cached_property
    def max_query_params(self) -> int:  # type: ignore[override]
        """How many parameters a statement may have.

        Django 6 asks the driver's connection, which a cursor leases for a moment only.
        """
        stock = vars(DatabaseFeatures)["max_query_params"]
        if isinstance(stock, int):
            return stock
        with self.connection.cursor() as cursor:
            limit: int = cursor.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        return limit

    @cached_property
    def pool_test_skips(self) -> dict[str, set[str]]:
        """Tests of Django's own suite that do not apply with this pool, by reason."""
        scoped = is_transaction_scoped(self.connection.settings_dict)
        return {**super().pool_test_skips, **(_SCOPE_SKIPS if scoped else {})}
