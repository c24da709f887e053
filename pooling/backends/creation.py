"""Test databases, for which every session has to be gone at the right moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.db.backends.base.creation import BaseDatabaseCreation

from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from pooling.backends.base import PooledDatabaseWrapper


class PooledDatabaseCreation(BaseDatabaseCreation):
    """Mixed into a Django creation class, it closes the pools of databases that come and go.

    A database that has sessions cannot be copied or dropped, and a SQLite file that is open must
    not be. Pools are closed rather than drained: a drained pool would connect again to keep
    `min_size`. What other threads hold is closed when they give it back.
    """

    def _create_test_db(self, verbosity: int, autoclobber: bool, keepdb: bool = False) -> str:
        """Leave the database of the settings before the alias points to another one.

        Django's `create_test_db` calls this. Overriding that one instead would put a frame of ours
        between Django and its caller, at whom Django's deprecation warnings point.
        """
        self._close_pools(self.connection.settings_dict["NAME"])
        name: str = super()._create_test_db(  # type: ignore[misc]  # unknown to django-stubs
            verbosity, autoclobber, keepdb
        )
        return name

    def setup_worker_connection(self, _worker_id: int) -> None:
        """Point the alias at the clone of one worker process."""
        self._close_pools(self.connection.settings_dict["NAME"])
        super().setup_worker_connection(_worker_id)

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:
        self._close_pools(self.connection.settings_dict["NAME"])
        # Private in Django, so the stubs do not know these two; the runner calls them by name.
        super()._clone_test_db(suffix, verbosity, keepdb)  # type: ignore[misc]

    def _destroy_test_db(self, test_database_name: str, verbosity: int) -> None:
        self._close_pools(test_database_name)
        super()._destroy_test_db(test_database_name, verbosity)  # type: ignore[misc]

    def _close_pools(self, database: Any) -> None:
        wrapper = cast("PooledDatabaseWrapper", self.connection)
        wrapper.close()
        REGISTRY.close_database(wrapper.database_identity(database))
