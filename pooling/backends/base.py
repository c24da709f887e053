"""What the pooled backends share: a Django database wrapper that leases its connection."""

from __future__ import annotations

import contextlib
import dataclasses
from asyncio import _get_running_loop
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.utils import DEFAULT_DB_ALIAS
from django.utils.asyncio import async_unsafe

from pooling import activity
from pooling.backends.cursors import OpenCursors
from pooling.backends.driver import DatabaseDriver, driver_of
from pooling.conf import pool_config
from pooling.core import forks
from pooling.core.errors import LeaseError
from pooling.core.pool import Pool
from pooling.registry import REGISTRY
from pooling.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pooling.core.connection import Lease


class _Binding:
    """Which pool a wrapper uses, and the settings from which that follows."""

    __slots__ = ("pool", "settings")

    def __init__(self, settings: dict[str, Any], pool: Pool[Any] | None) -> None:
        self.settings = settings
        self.pool = pool

    def __repr__(self) -> str:
        return f"<binding to {self.pool!r}>"  # the settings have a password in them


_STOCK_ENSURE_CONNECTION: Any = BaseDatabaseWrapper.ensure_connection
"""Django's tests, and other people's tools, put something else in its place, which then counts."""
if _STOCK_ENSURE_CONNECTION.__module__ != BaseDatabaseWrapper.__module__:
    _STOCK_ENSURE_CONNECTION = None  # somebody had done so before this module was imported


@async_unsafe
def _refuse_in_event_loop() -> None:
    """Raise what Django raises when somebody would block an event loop."""


class PooledDatabaseWrapper(BaseDatabaseWrapper):
    """Mixed into a Django database wrapper, it leases connections from the process's pool.

    `connection.close()` means *release* here: whoever calls it, Django at the end of a request for
    instance, gives the connection back to the pool and may not use it any more.

    Django sets up every connection it opens: parameters, autocommit, time zone, versions, a signal.
    Here that belongs to the physical connection and happens once in its life (`DatabaseDriver`),
    so that `connect` has little left to do. What every request does is therefore written out here
    for the ordinary case, and everything else is left to Django's own methods.
    """

    driver_class: ClassVar[type[DatabaseDriver]]
    Database: ClassVar[Any]
    """The driver's PEP 249 module, set by the Django wrapper this is mixed into."""
    _thread_sharing_count: int
    _thread_ident: int

    pool: Any = None
    """Django's PostgreSQL wrapper asks `self.pool` everywhere whether *its* pool is in use. It is
    never, not even when `OPTIONS["pool"]`, which is ours, looks like it. See `resolve_pool`."""

    acquire_timeout: float | None = None
    """Seconds that this wrapper waits for a connection, if not the pool's `timeout`."""

    def __init__(self, settings_dict: dict[str, Any], alias: str = DEFAULT_DB_ALIAS) -> None:
        super().__init__(settings_dict, alias)
        self._binding: _Binding | None = None
        self._lease: Lease[Any] | None = None
        self._cursors = OpenCursors()
        self._delegating = False
        self._must_discard = False
        """Something happened that the connection's own state may not show: do not keep it."""
        forks.register(self)

    # ---- which pool ----------------------------------------------------------------------------

    def resolve_pool(self) -> Pool[Any] | None:
        """Return this wrapper's pool, or None if it works without one. Does not connect.

        The settings are looked at every time, because test runners change them in place.

        Raises:
            ImproperlyConfigured: wrong options, or options that contradict each other.
        """
        binding = self._binding
        if (
            binding is None
            or binding.settings != self.settings_dict
            or (binding.pool is not None and binding.pool.closed)
        ):
            binding = self._binding = _Binding(_snapshot(self.settings_dict), self.find_pool())
        return binding.pool

    def find_pool(self) -> Pool[Any] | None:
        """Return the pool that the present settings lead to, which may have to be made."""
        config = pool_config(self.settings_dict, self.alias)
        if config is None or self.alias == NO_DB_ALIAS or not self.can_be_pooled():
            return None
        self.check_settings()
        params = self.get_connection_params()
        # Aliases that differ in nothing but their name share a pool. A name somebody chose counts.
        identity = dataclasses.replace(config, name="-") if config.name == self.alias else config
        key = (
            type(self),
            identity,
            self.session_identity(params),
            self.time_zone_identity(),
            self.settings_dict["AUTOCOMMIT"],
        )
        pool = REGISTRY.get(
            key,
            self.database_identity(self.settings_dict["NAME"]),
            lambda: Pool(self.driver_class(self, config), config, listener=SIGNALS),
        )
        driver = driver_of(pool)
        if driver is not None:
            driver.update_settings(self)
        return pool

    def can_be_pooled(self) -> bool:
        """Tell whether a second connection would reach the same database as the first."""
        return True

    def session_identity(self, params: dict[str, Any]) -> Hashable:
        """Return what two wrappers must have in common to use each other's sessions.

        Args:
            params: the effective connection parameters.
        """
        raise NotImplementedError

    def time_zone_identity(self) -> Hashable:
        """Return what Django derives from its time zone settings for a session."""
        return None

    def database_identity(self, name: Any) -> str:
        """Return by what the registry finds the pools of the database `name`."""
        return str(name)

    def get_connection_params(self) -> dict[str, Any]:
        """Return the driver's parameters, with our own option taken out of a copy."""
        settings_dict = self.settings_dict
        options = {key: value for key, value in settings_dict["OPTIONS"].items() if key != "pool"}
        self.settings_dict = {**settings_dict, "OPTIONS": options}
        try:
            return super().get_connection_params()
        finally:
            self.settings_dict = settings_dict

    # ---- acquire -------------------------------------------------------------------------------

    def ensure_connection(self) -> None:
        """Lease a connection, if there is none.

        Django's own notices an event loop by the exception it gets where there is none, and makes
        a context manager for errors that do not occur: together half of what a lease costs.
        """
        if (
            BaseDatabaseWrapper.ensure_connection is not _STOCK_ENSURE_CONNECTION
            and not self._delegating
        ):
            self._delegating = True  # which may lead back here
            try:
                super().ensure_connection()
            finally:
                self._delegating = False
        elif self.connection is not None:
            if _get_running_loop() is not None:
                super().ensure_connection()  # which says why not
        elif self.in_atomic_block:
            super().ensure_connection()
        else:
            try:
                self.connect()
            except Exception:
                with self.wrap_database_errors:
                    raise

    def connect(self) -> None:
        """Lease a connection. Assume that there is none."""
        if _get_running_loop() is not None:
            _refuse_in_event_loop()
        pool = self.resolve_pool()
        if pool is None:
            super().connect()
            return
        # From here to the acquire this is Django's connect(), which cannot be divided.
        settings_dict = self.settings_dict
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        self.health_check_enabled = settings_dict["CONN_HEALTH_CHECKS"]
        self.health_check_done = True
        self.close_at = 0.0  # CONN_MAX_AGE is 0: the lease ends with the request
        self.closed_in_transaction = False
        self.errors_occurred = False
        self.run_commit_hooks_on_set_autocommit_on = False
        try:
            self.connection = self._acquire(pool)
            self.autocommit = settings_dict["AUTOCOMMIT"]
            self.run_on_commit = []
            driver: Any = pool._driver
            lease: Any = self._lease
            # The same is asked there; here it spares every request the call.
            if driver.restores or lease._owned.context != connection_created.receivers:
                self._send_connection_created(driver)
        except BaseException:
            self._discard_lease()
            raise

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Acquire from the pool and return the driver's own connection object.

        Args:
            conn_params: used only without a pool; a pool's driver knows its own.
        """
        pool = self.resolve_pool()
        if pool is None:
            return super().get_new_connection(conn_params)
        return self._acquire(pool)

    def _acquire(self, pool: Pool[Any]) -> Any:
        """Lease a connection from this wrapper's pool and return the driver's own object."""
        if self._lease is not None:
            # Somebody set `connection` to None behind our back: nobody knows in what state it is.
            self._discard_lease()
        self._lease = lease = pool.acquire(
            self.acquire_timeout,
            thread_bound=not self._thread_sharing_count,
            note=activity.current(),
        )
        self._must_discard = False
        return lease.connection

    def _send_connection_created(self, driver: DatabaseDriver) -> None:
        """Send `connection_created`, once for each physical connection and set of receivers.

        Receivers set up the session further. A receiver that came later has not seen this
        connection, and a session that was restored has forgotten what receivers did.
        """
        receivers = connection_created.receivers
        record = self._lease._record  # type: ignore[union-attr]  # that we have just got
        if record.context == receivers and not driver.needs_connection_created(self.connection):
            return
        connection_created.send(sender=self.__class__, connection=self)
        # Without autocommit what they did is part of the lease's transaction: undone, perhaps.
        record.context = list(receivers) if self.autocommit else None
        driver.mark_baseline(self.connection)

    def create_cursor(self, name: str | None = None) -> Any:
        """Make a cursor that will not outlive the lease."""
        cursor = super().create_cursor(name)
        if self._lease is not None:
            self._cursors.add(cursor)
            if name:
                driver: Any = self._lease._pool._driver
                driver.add_server_cursor(self._lease.connection, cursor)
        return cursor

    # ---- release -------------------------------------------------------------------------------

    def close_if_unusable_or_obsolete(self) -> None:
        """Release at the end of a request, whatever happened: the pool finds out what is usable."""
        if self._lease is None:
            super().close_if_unusable_or_obsolete()
        else:
            self.close()

    def close(self) -> None:
        """Release the connection, if there is one."""
        if (
            self._lease is None
            or self.connection is None
            or self.in_atomic_block
            or self._thread_ident != get_ident()
            or _get_running_loop() is not None
        ):
            super().close()  # Django's, for those who may not do it, and for a transaction's end
            if self.connection is None:
                self._discard_lease()  # an interrupt may have left one
        else:
            self.run_on_commit = []
            self._close()

    def _close(self) -> None:
        """Give the connection back, and leave none behind that could still be used.

        The driver's object goes first: whoever survives an interrupt here must not go on with a
        connection that somebody else may have by then.
        """
        lease, connection = self._lease, self.connection
        if lease is None:
            super()._close()  # type: ignore[misc]  # Django's, not in its stubs
            return
        if not self.in_atomic_block:
            self.connection = None
        try:
            if connection is None:
                pass
            elif self.in_atomic_block:
                # Django goes on to hold this object until the block ends, as a closed one.
                connection.close()
            elif not self._must_discard and (
                not self._cursors or self._close_cursors(connection, lease._pool._driver)
            ):
                lease._pool.release(lease, ping=self.errors_occurred)
        except LeaseError:
            pass  # it is over: the pool took it back, from a thread that had ended
        except Exception:
            with self.wrap_database_errors:
                raise
        finally:
            self._lease = None
            if lease._owned is not None and lease._current:  # a release has taken what it owned
                self._cursors.take()
                lease.discard()

    def _close_cursors(self, connection: Any, driver: Any) -> bool:
        """Close what is left open; tell whether the connection may still be trusted."""
        cursors = self._cursors.take()
        if cursors:
            try:
                driver.close_cursors(connection, cursors)
            except self.Database.Error:
                return False
        return True

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        except BaseException:
            self._must_discard = True
            raise

    def _discard_lease(self) -> None:
        """Throw the leased connection away."""
        lease, self._lease, self.connection = self._lease, None, None
        if lease is not None:
            with contextlib.suppress(LeaseError):
                lease.discard()

    def close_pool(self) -> None:
        """Do nothing, on purpose.

        Django's wrappers have this method to end their own pool, and others call it at moments when
        ours must go on: Celery's prefork worker after every task. To close or renew the connections
        of our pool use `pooling.get_pool(alias).drain()`.
        """

    # ---- forks ---------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection and transaction, without a word to the server."""
        if self._lease is None:
            return
        forks.immortalise(self.connection)
        forks.immortalise(self._cursors)
        self._lease = None
        self._cursors = OpenCursors()
        self.connection = None
        self.in_atomic_block = False
        self.closed_in_transaction = False
        self.needs_rollback = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.run_on_commit = []


def frozen(value: Any) -> Hashable:
    """Return something hashable that is equal for equal settings."""
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value  # type: ignore[no-any-return]


def _snapshot(settings_dict: dict[str, Any]) -> dict[str, Any]:
    """Copy settings as deep as people change them in place."""
    options = {**settings_dict["OPTIONS"]}
    if isinstance(options.get("pool"), dict):
        options["pool"] = {**options["pool"]}
    return {**settings_dict, "OPTIONS": options}
