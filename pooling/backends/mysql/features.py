"""Database features: Django's, and its own tests that a pool has to skip."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.utils.functional import cached_property

_HEALTH_CHECKS = "backends.base.test_base.ConnectionHealthChecksTests"


if TYPE_CHECKING:
    from django.db.backends.mysql import features

    _Features = features.DatabaseFeatures
else:
    _Features = object


class PooledFeatures(_Features):
    """Mixed into a MySQL engine's features, it names tests of Django's that do not apply."""

    pool_test_skips: ClassVar[dict[str, set[str]]] = {
        "The pool refuses CONN_MAX_AGE, which this test sets; it tests connections by itself.": {
            f"{_HEALTH_CHECKS}.test_health_checks_disabled",
            f"{_HEALTH_CHECKS}.test_health_checks_enabled",
            f"{_HEALTH_CHECKS}.test_health_checks_enabled_errors_occurred",
            f"{_HEALTH_CHECKS}.test_set_autocommit_health_checks_enabled",
            "servers.tests.LiveServerTestCloseConnectionTest.test_closes_connections",
        },
    }
    """Tests of Django's own suite that do not apply with a pool, by reason."""

    @cached_property
    def django_test_skips(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The tests that Django's own suite skips here (see `tests/django_suite`)."""
        return {**super().django_test_skips, **self.pool_test_skips}
