"""Database features: Django's own tests that a pool has to skip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.functional import cached_property

_HEALTH_CHECKS = "backends.base.test_base.ConnectionHealthChecksTests"
GIS_TEST_SKIPS = {
    "This test of Django's knows the stock engine by its name.": {
        "gis_tests.inspectapp.tests.OGRInspectTest.test_time_field",
    },
}
"""Tests that no other engine of GeoDjango passes, by reason."""

if TYPE_CHECKING:
    from django.db.backends.base.features import BaseDatabaseFeatures

    _Features = BaseDatabaseFeatures
else:
    _Features = object


class PooledFeatures(_Features):
    """Mixed into an engine's features, it names tests of Django's that do not apply."""

    @cached_property
    def pool_test_skips(self) -> dict[str, set[str]]:
        """Tests of Django's own suite that do not apply with a pool, by reason."""
        reason = "The pool refuses CONN_MAX_AGE, which this test sets; it tests connections itself."
        return {
            reason: {
                f"{_HEALTH_CHECKS}.test_health_checks_disabled",
                f"{_HEALTH_CHECKS}.test_health_checks_enabled",
                f"{_HEALTH_CHECKS}.test_health_checks_enabled_errors_occurred",
                f"{_HEALTH_CHECKS}.test_set_autocommit_health_checks_enabled",
                "servers.tests.LiveServerTestCloseConnectionTest.test_closes_connections",
            },
        }

    @cached_property
    def django_test_skips(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The tests that Django's own suite skips here (see `tests/django_suite`)."""
        return {**super().django_test_skips, **self.pool_test_skips}
