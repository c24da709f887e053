"""The pooled PostgreSQL backend."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from pooling.backends.base import PooledDatabaseWrapper
from pooling.backends.creation import PooledDatabaseCreation
from pooling.backends.driver import driver_of
from pooling.backends.identity import frozen
from pooling.backends.postgresql.driver import PostgresDriver, PsycopgDriver
from pooling.backends.postgresql.features import PooledFeatures
from pooling.backends.postgresql.schema import PooledSchemaEditor
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pooling.core.pool import Pool


if TYPE_CHECKING:
    _Wrapper = base.DatabaseWrapper
else:
    _Wrapper = object


class PooledPostgreSQL(PooledDatabaseWrapper, _Wrapper):
    """Mixed into a PostgreSQL wrapper, of Django's or another package, it leases connections."""

    driver_class = PostgresDriver
    mixins: ClassVar[Mapping[str, type]] = {
        "creation_class": PooledDatabaseCreation,
        "features_class": PooledFeatures,
        "SchemaEditorClass": PooledSchemaEditor,
    }

    def find_pool(self) -> Pool[Any] | None:
        """Return the pool, and set the isolation level that its sessions have."""
        level = self.settings_dict["OPTIONS"].get("isolation_level", IsolationLevel.READ_COMMITTED)
        with contextlib.suppress(ValueError):  # Django reports it when it connects
            self.isolation_level = IsolationLevel(level)
        return super().find_pool()

    def drain_database(self) -> None:
        """Replace the sessions that this process's pools have on this database; see `Pool.drain`.

        Blocks while idle sessions are closed. Leased ones, this wrapper's too, are closed when they
        are released.
        """
        for pool in REGISTRY.pools():
            driver, name = driver_of(pool), self.settings_dict["NAME"]
            if isinstance(driver, PsycopgDriver) and driver.settings["NAME"] == name:
                pool.drain()

    def session_identity(self, params: dict[str, Any]) -> Hashable:
        """Return the parameters, and the options that Django turns into SQL after connecting."""
        options = self.settings_dict["OPTIONS"]
        # `context` is made from the time zone, which is in the pool's key already.
        not_identifying = {*self.credential_params, "context"}
        return frozen(
            {
                **{key: params[key] for key in params.keys() - not_identifying},
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
        if self._binding.pool is not None:
            self._binding.pool.close()
        return super().ensure_timezone()


class DatabaseWrapper(PooledPostgreSQL, base.DatabaseWrapper):
    """Django's PostgreSQL wrapper, leasing its connections from a pool."""
