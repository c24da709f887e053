"""The features of the pooled SQLite backend."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from django.db.backends.sqlite3 import features
from django.utils.functional import cached_property

from pooling.backends.transaction_scope import is_transaction_scoped

_POOL_SKIPS = {
    "The pool refuses CONN_MAX_AGE, which this test sets.": {
        "servers.tests.LiveServerTestCloseConnectionTest.test_closes_connections",
    },
}
_SCOPE_SKIPS = {
    "With scope='transaction' no connection is held after a query; this test looks at it.": {
        "backends.sqlite.tests.ThreadSharing.test_database_sharing_in_threads",
    },
}


if TYPE_CHECKING:
    _Features = features.DatabaseFeatures
else:
    _Features = object


class PooledFeatures(_Features):
    """Mixed into a SQLite engine's features: what asks the connection or does not apply."""

    @cached_property
    def max_query_params(self) -> int:  # type: ignore[override]
        """How many parameters a statement may have.

        Django 6 asks the driver's connection, which a cursor leases for a moment only.
        """
        stock = vars(features.DatabaseFeatures)["max_query_params"]
        if isinstance(stock, int):
            return stock
        with self.connection.cursor() as cursor:
            limit: int = cursor.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        return limit

    @cached_property
    def pool_test_skips(self) -> dict[str, set[str]]:
        """Tests of Django's own suite that make no sense with this pool, by the reason why."""
        scoped = is_transaction_scoped(self.connection.settings_dict)
        return {**_POOL_SKIPS, **(_SCOPE_SKIPS if scoped else {})}

    @cached_property
    def django_test_skips(self) -> dict[str, set[str]]:  # type: ignore[override]
        """What Django's own suite skips here (see `tests/django_suite`)."""
        return {**super().django_test_skips, **self.pool_test_skips}
