"""The pooled PostgreSQL backend."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from pooling.backends.base import PooledDatabaseWrapper, frozen
from pooling.backends.postgresql.creation import DatabaseCreation
from pooling.backends.postgresql.driver import PostgresDriver
from pooling.backends.postgresql.features import DatabaseFeatures

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pooling.core.pool import Pool

NOT_OF_THE_SESSION = {"password", "context"}
"""Parameters that do not tell one session from another: a password may change while sessions live
on; `context` is made from the time zone, which has its own place in a pool's key."""


class DatabaseWrapper(PooledDatabaseWrapper, base.DatabaseWrapper):
    """Django's PostgreSQL wrapper, leasing its connections from a pool."""

    driver_class = PostgresDriver
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures

    def find_pool(self) -> Pool[Any] | None:
        """Return the pool; its sessions have this wrapper's isolation level, so it knows that."""
        level = self.settings_dict["OPTIONS"].get("isolation_level", IsolationLevel.READ_COMMITTED)
        with contextlib.suppress(ValueError):  # Django says what is wrong with it as it connects
            self.isolation_level = IsolationLevel(level)
        return super().find_pool()

    def chunked_cursor(self) -> Any:
        """Make a server-side cursor, whose statements nobody looks at."""
        cursor = super().chunked_cursor()
        if self._lease is not None:
            self._lease._pool.driver.mark_dirty(self._lease.connection)  # type: ignore[attr-defined]
        return cursor

    def session_identity(self, params: dict[str, Any]) -> Hashable:
        """Return the parameters, and the options that Django turns into SQL after connecting."""
        options = self.settings_dict["OPTIONS"]
        return frozen(
            {
                **{key: params[key] for key in params.keys() - NOT_OF_THE_SESSION},
                "isolation_level": options.get("isolation_level"),
                "assume_role": options.get("assume_role"),
            }
        )

    def time_zone_identity(self) -> Hashable:
        """Return the session's time zone, and whether datetimes are aware."""
        return self.timezone_name, settings.USE_TZ

    def ensure_timezone(self) -> bool:
        """Renew the pool after a change of TIME_ZONE or USE_TZ, as tests make it.

        The sessions of the old pool have the old time zone, except for the one this wrapper may
        hold: that gets the new one, and is closed with the others when it comes back.
        """
        if self._binding is not None and self._binding.pool is not None:
            self._binding.pool.close()
        return super().ensure_timezone()
