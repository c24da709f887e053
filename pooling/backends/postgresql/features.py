"""Database features: Django's, and its own tests that a pool has to skip."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import django
from django.utils.functional import cached_property

_HEALTH_CHECKS = "backends.base.test_base.ConnectionHealthChecksTests"
_POSTGRESQL = "backends.postgresql.tests.Tests"

_OTHER_POOL = {
    f"{_POSTGRESQL}.test_connect_pool",
    f"{_POSTGRESQL}.test_connect_pool_set_to_true",
    f"{_POSTGRESQL}.test_connect_pool_setting_ignored_for_psycopg2",
    f"{_POSTGRESQL}.test_pooling_health_checks",
    f"{_POSTGRESQL}.test_pooling_not_support_persistent_connections",
}
if django.VERSION >= (6, 1):  # a test that does not exist must not be named
    _OTHER_POOL |= {
        f"{_POSTGRESQL}.test_pool_check_can_be_overridden",
        f"{_POSTGRESQL}.test_pool_options_not_mutated",
    }


if TYPE_CHECKING:
    from django.db.backends.postgresql import features

    _Features = features.DatabaseFeatures
else:
    _Features = object


class PooledFeatures(_Features):
    """Mixed into a PostgreSQL engine's features, it names tests of Django's that do not apply."""

    pool_test_skips: ClassVar[dict[str, set[str]]] = {
        "The pool refuses CONN_MAX_AGE, which this test sets; it tests connections by itself.": {
            f"{_HEALTH_CHECKS}.test_health_checks_disabled",
            f"{_HEALTH_CHECKS}.test_health_checks_enabled",
            f"{_HEALTH_CHECKS}.test_health_checks_enabled_errors_occurred",
            f"{_HEALTH_CHECKS}.test_set_autocommit_health_checks_enabled",
            "servers.tests.LiveServerTestCloseConnectionTest.test_closes_connections",
        },
        "Tests Django's own pool, psycopg_pool behind `connection.pool`; this is another one.": (
            _OTHER_POOL
        ),
    }
    """Tests of Django's own suite that do not apply with a pool, by reason."""

    @cached_property
    def django_test_skips(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The tests that Django's own suite skips here (see `tests/django_suite`)."""
        return {**super().django_test_skips, **self.pool_test_skips}
