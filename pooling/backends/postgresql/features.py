"""PostgreSQL's features: Django's own tests that this pool has to skip."""

from __future__ import annotations

import django
from django.utils.functional import cached_property

from pooling.backends import features

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


class PooledFeatures(features.PooledFeatures):
    """Mixed into a PostgreSQL engine's features, it names tests of Django's that do not apply."""

    @cached_property
    def pool_test_skips(self) -> dict[str, set[str]]:
        """Tests of Django's own suite that do not apply with this pool, by reason."""
        reason = "Tests Django's own pool, psycopg_pool behind `connection.pool`; this is another."
        return {**super().pool_test_skips, reason: _OTHER_POOL}
