"""The features of the pooled SQLite backend."""

from __future__ import annotations

from typing import ClassVar

from django.db.backends.sqlite3 import features
from django.utils.functional import cached_property


class DatabaseFeatures(features.DatabaseFeatures):
    """Django's, with the tests of its suite that a pool rules out."""

    pool_test_skips: ClassVar[dict[str, set[str]]] = {
        "The pool refuses CONN_MAX_AGE, which this test sets.": {
            "servers.tests.LiveServerTestCloseConnectionTest.test_closes_connections",
        },
    }
    """Tests of Django's own suite that make no sense with a pool, by the reason why."""

    @cached_property
    def django_test_skips(self) -> dict[str, set[str]]:  # type: ignore[override]
        """What Django's own suite skips here (see `tests/django_suite`)."""
        return {**super().django_test_skips, **self.pool_test_skips}
