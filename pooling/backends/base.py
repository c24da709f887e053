"""PooledDatabaseWrapper: a Django database wrapper that leases its connection from a pool."""

from __future__ import annotations

import contextlib
from asyncio import _get_running_loop
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.utils import DEFAULT_DB_ALIAS
from django.utils.asyncio import async_unsafe

from pooling import activity
from pooling.backends.cursors import OpenCursors
from pooling.backends.pool_lookup import PoolLookup
from pooling.backends.replay_reads import replaying, replays_reads
from pooling.backends.transaction_scope import is_transaction_scoped, transaction_scoped
from pooling.core import forks
from pooling.core.errors import LeaseError, PoolClosed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.backends.driver import DatabaseDriver
    from pooling.core.connection import Lease, PooledConnection
    from pooling.core.pool import Pool


def _stock(name: str) -> Any:
    """Return a method of Django's wrapper; None if somebody has put another in its place.

    Django's tests, and other people's tools, do that: theirs then counts.
    """
    method = getattr(BaseDatabaseWrapper, name)
    return method if method.__module__ == BaseDatabaseWrapper.__module__ else None


_STOCK_ENSURE_CONNECTION, _STOCK_CURSOR = _stock("ensure_connection"), _stock("cursor")


@async_unsafe
def _refuse_in_event_loop() -> None:
    """Raise what Django raises when an event loop would be blocked."""


class OwnMethod(partial[None]):
    """Put in the place of a wrapper's method, it works on that wrapper: a copy does not get it."""


class PooledDatabaseWrapper(PoolLookup):
    """Mixed into a Django database wrapper, it leases connections from the process's pool.

    `connection.close()` means *release* here: its callers, Django at the end of a request for
    instance, give the connection back to the pool and may not use it any more.

    Django sets up every connection it opens: parameters, autocommit, time zone, versions, a signal.
    Here that belongs to the physical connection and happens once in its life (`DatabaseDriver`),
    so that `connect` has little left to do. What every request does is therefore written out here
    for the ordinary case, and everything else is left to Django's own methods.

    **Re-entrance.** A signal handler or a finaliser may use the wrapper in the middle of these
    methods, in the same thread. CPython runs handlers where a function begins, where a loop jumps
    back and when a call returns. So `_lease` and `connection` change together, in lines without a
    call between them: a nested use finds both or neither. What a method has taken off the wrapper
    is its own, in local variables; it puts nothing back, and leaves alone what it then finds there.
    """

    Database: ClassVar[Any]
    """The driver's PEP 249 module, set by the Django wrapper this is mixed into."""
    _thread_sharing_count: int
    _thread_ident: int

    pool: Any = None
    """Django's PostgreSQL wrapper asks `self.pool` everywhere whether *its* pool is in use. It is
    never, not even when `OPTIONS["pool"]`, which is ours, looks like it. See `resolve_pool`."""

    _executing_in: int | None = None
    """The thread in which a cursor runs a statement at this moment, on engines that crash if a
    signal handler closes or releases the connection meanwhile; see `_is_executing`."""

    acquire_timeout: float | None = None
    """Seconds that this wrapper waits for a connection, if not the pool's `timeout`."""

    mixins: ClassVar[Mapping[str, type]] = {}
    """What is mixed into the classes that a wrapper names, by the name of the attribute: into
    Django's or, where an engine has them, into those of another package."""

    has_stock_cursor: ClassVar[bool] = False
    """Whether the wrapper that this is mixed into makes its cursors with Django's `cursor()`."""

    plain_class: ClassVar[type[PooledDatabaseWrapper] | None] = None
    """The class of which this one is a variant, made for options of the pool, if it is one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Mix what a pool needs into the classes that the wrapper names."""
        super().__init_subclass__(**kwargs)
        for name, mixin in cls.mixins.items():
            named = getattr(cls, name, None)
            if named is not None and not issubclass(named, mixin):
                namespace = {"__module__": named.__module__, "__doc__": named.__doc__}
                setattr(cls, name, type(named.__name__, (mixin, named), namespace))
        cls.has_stock_cursor = super().cursor is _STOCK_CURSOR

    def __new__(cls, settings_dict: dict[str, Any], *_: Any, **__: Any) -> Self:
        """Return an object of the class for the options in the settings."""
        chosen: Any = cls
        if cls.driver_class.can_replay and replays_reads(settings_dict):
            chosen = replaying(chosen)
        if is_transaction_scoped(settings_dict):
            chosen = transaction_scoped(chosen)
        return super().__new__(chosen)  # type: ignore[no-any-return]

    def __init__(self, settings_dict: dict[str, Any], alias: str = DEFAULT_DB_ALIAS) -> None:
        super().__init__(settings_dict, alias=alias)  # PostGIS looks for it by its name
        self._lease: Lease[Any] | None = None
        self._cursors = OpenCursors()
        self._delegating = False
        self._distrusted: Lease[Any] | None = None
        """A lease that must not be kept: something happened that its connection may not show."""
        forks.register(self)

    def __copy__(self) -> PooledDatabaseWrapper:
        """Return a wrapper with what users have set on this one, and without its connection.

        Not with what records this one's leases: it would lease for this one.
        """
        duplicate = type(self)(self.settings_dict, self.alias)
        own = vars(duplicate)
        for name, value in vars(self).items():
            if name not in own and not isinstance(value, OwnMethod):
                own[name] = value
        return duplicate

    def __deepcopy__(self, memo: dict[int, Any]) -> PooledDatabaseWrapper:
        """Return what `copy()` returns."""
        duplicate: PooledDatabaseWrapper = self.copy()
        return duplicate

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
                super().ensure_connection()  # raises SynchronousOnlyOperation
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
        binding = self._binding
        if not binding.follows_settings or binding.settings != self.settings_dict:
            pool = self.resolve_pool()
            binding = self._binding
        else:
            pool = binding.pool
        if pool is None:
            super().connect()
            return
        # From here to the acquire this is Django's connect(), which cannot be divided.
        self.in_atomic_block = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.needs_rollback = False
        self.health_check_enabled = self.settings_dict["CONN_HEALTH_CHECKS"]
        self.health_check_done = True
        self.close_at = 0.0  # CONN_MAX_AGE is 0: the lease ends with the request
        self.closed_in_transaction = False
        self.errors_occurred = False
        self.run_commit_hooks_on_set_autocommit_on = False
        if self._lease is not None:
            self._discard_lease()
        try:
            lease = pool.acquire(
                self.acquire_timeout,
                thread_bound=not self._thread_sharing_count,
                note=activity.current(),
            )
        except PoolClosed:
            successor = self.resolve_pool()
            if successor is None:
                super().connect()
                return
            if successor is pool:
                raise
            pool = successor
            lease = self._acquire(pool)
        if self._lease is not None:
            lease.release()  # a signal handler has connected this wrapper meanwhile
            return
        try:
            # No call in these lines; see the class.
            record: Any = lease._owned
            self._lease = lease
            self.connection = record.connection
            if self._lease is not lease:
                self.connection = None  # a debugger has used the wrapper between the two
                return
            self.autocommit = self.settings_dict["AUTOCOMMIT"]
            self.run_on_commit = []
            driver: Any = pool._driver
            if not binding.follows_settings and not driver.may_serve(
                self.alias, driver.credentials
            ):
                self._release()  # a receiver of `connection_created` was added while this waited
                self.connect()
            # The same is asked there; here it spares every request the call.
            elif driver.restores or record.context != connection_created.receivers:
                self._send_connection_created(driver, lease)
        except BaseException:
            self._drop(lease)
            raise

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Acquire from the pool and return the driver's own connection object.

        Args:
            conn_params: used only without a pool; a pool's driver knows its own.
        """
        pool = self.resolve_pool()
        if pool is None:
            return super().get_new_connection(self.with_supplied_params(conn_params))
        if self._lease is not None:
            self._discard_lease()
        lease = self._acquire(pool)
        self._lease = lease
        return lease.connection

    def _acquire(self, pool: Pool[Any]) -> Lease[Any]:
        return pool.acquire(
            self.acquire_timeout,
            thread_bound=not self._thread_sharing_count,
            note=activity.current(),
        )

    def _send_connection_created(self, driver: DatabaseDriver, lease: Lease[Any]) -> None:
        """Send `connection_created`, once for each physical connection and set of receivers.

        Receivers set up the session further. A receiver that came later has not seen this
        connection, and a session that was restored has forgotten what receivers did.
        """
        receivers = connection_created.receivers
        connection, record = self.connection, lease._owned
        if self._lease is not lease or record is None:
            return  # a signal handler has closed it
        if record.context == receivers and not driver.needs_connection_created(connection):
            return
        driver.receivers_have_run = driver.receivers_have_run or bool(receivers)
        connection_created.send(sender=self.__class__, connection=self)
        # Taken off the wrapper meanwhile, as in `_release`, so that no signal handler can close it.
        if self._lease is lease:
            self.connection = None
            self._lease = None
            self.connection = None
        if not lease._current:
            return  # a receiver, or a signal handler, has closed it
        # Without autocommit what they did is part of the lease's transaction: undone, perhaps.
        record.context = list(receivers) if self.autocommit else None
        driver.mark_baseline(connection)
        if self._lease is not None:
            lease.release()  # a signal handler has connected the wrapper
            return
        self._lease = lease
        self.connection = connection
        if self._lease is not lease:
            self.connection = None

    def cursor(self) -> Any:
        """Make a cursor, and lease a connection if there is none.

        Without Django's look for an event loop: `ensure_connection`, which it calls, has a cheaper
        one.
        """
        if self.has_stock_cursor and BaseDatabaseWrapper.cursor is _STOCK_CURSOR:
            return self._cursor()  # type: ignore[attr-defined]  # not in the stubs
        return super().cursor()

    def create_cursor(self, name: str | None = None) -> Any:
        """Make a cursor that will not outlive the lease."""
        connection = self.connection
        cursor = self.stock_cursor(name)
        if self._lease is not None:
            self._cursors.add(cursor)
        if self.connection is not connection:
            cursor.close()  # a signal handler has closed the connection, which may be lent by now
            raise self.Database.InterfaceError("connection already closed")
        if name:
            self._add_server_cursor(cursor)
        return cursor

    def stock_cursor(self, name: str | None = None) -> Any:
        """Make a cursor as the stock backend does."""
        return super().create_cursor(name)

    def _add_server_cursor(self, cursor: Any) -> None:
        lease = self._lease
        if lease is not None:
            driver: Any = lease._pool._driver
            driver.add_server_cursor(lease.connection, cursor)

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
            super().close()  # Django's, which refuses other threads, and for a transaction's end
            if self.connection is None:
                self._discard_lease()  # an interrupt may have left one
        else:
            self.run_on_commit = []
            self._release()

    def _close(self) -> None:
        """Give the connection back, and leave none behind that could still be used."""
        if self._executing_in is not None and self._is_executing():
            return
        lease = self._lease
        if lease is None:
            super()._close()  # type: ignore[misc]  # Django's, not in its stubs
        elif self.in_atomic_block:
            self._close_in_atomic_block(lease)
        else:
            self._release()

    def _release(self) -> None:
        """Take the lease off the wrapper, and release it."""
        if self._executing_in is not None and self._is_executing():
            return
        lease = self._lease
        if lease is None:
            return
        # No call in these lines; see the class. The driver's object goes first: after an interrupt
        # (Ctrl-C) here nothing may go on with a connection whose lease is gone.
        connection = self.connection
        ping = self.errors_occurred
        self.connection = None
        self._lease = None
        self.connection = None  # a debugger may have connected the wrapper between the two
        try:
            if self._distrusted is not lease and (
                not self._cursors
                or not (left_open := self._cursors.take())
                or self._close_cursors(connection, lease, left_open)
            ):
                lease._pool.release(lease, ping=ping)
        except LeaseError:
            pass  # it is over: the pool took it back, from a thread that had ended
        except Exception:
            with self.wrap_database_errors:
                raise
        finally:
            self._distrusted = None
            if lease._owned is not None and lease._current:  # a release has taken what it owned
                self._cursors.take()
                lease.discard()

    def _close_in_atomic_block(self, lease: Lease[Any]) -> None:
        """Close the connection itself, which Django holds on to until the block ends."""
        connection = self.connection
        try:
            if connection is not None:
                connection.close()
        except Exception:
            with self.wrap_database_errors:
                raise
        finally:
            self._cursors.take()
            if self._lease is lease:
                self._lease = None
            if lease._current:
                lease.discard()

    def _close_cursors(self, connection: Any, lease: Any, cursors: list[Any]) -> bool:
        """Close what is left open; tell whether the connection may still be trusted."""
        if lease._owned is None:
            return False
        try:
            lease._pool._driver.close_cursors(connection, cursors)
        except self.Database.Error:
            return False
        return True

    def _is_executing(self) -> bool:
        """Tell whether this thread runs a statement of this wrapper, further up its stack."""
        return False

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        except BaseException:
            self._distrusted = self._lease
            raise

    def _discard_lease(self) -> None:
        """Throw away a lease that was left on the wrapper without its connection.

        By an interrupt, or by code that has set `connection` to None: the session's state is
        unknown.
        """
        lease = self._lease
        if lease is not None:
            self._drop(lease)

    def _drop(self, lease: Lease[Any]) -> None:
        """Throw a lease away, and take it off the wrapper unless that has another one by now."""
        if self._lease is lease:
            self.connection = None
            self._lease = None
        with contextlib.suppress(LeaseError):
            lease.discard()

    def close_pool(self) -> None:
        """Do nothing, on purpose.

        Django's wrappers have this method to end their own pool, and others call it at moments when
        ours must go on: Celery's prefork worker after every task. To close or renew the connections
        of our pool use `pooling.get_pool(alias).drain()`.
        """

    # ---- threads and forks ---------------------------------------------------------------------

    def inc_thread_sharing(self) -> None:
        """Allow other threads to use this wrapper: its lease no longer ends with its thread."""
        super().inc_thread_sharing()
        self._follow_thread_sharing()

    def dec_thread_sharing(self) -> None:
        """Take that back."""
        super().dec_thread_sharing()
        self._follow_thread_sharing()

    def _follow_thread_sharing(self) -> None:
        """Bind the lease to its thread if that is the only one which may use the wrapper."""
        lease = self._lease
        if lease is not None:
            _bind_to_thread(lease, None if self._thread_sharing_count else self._thread_ident)

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection and transaction, and send nothing to the server."""
        if self._lease is None:
            return
        forks.immortalise(self.connection)
        forks.immortalise(self._cursors)
        self.connection = None
        self._lease = None
        self._distrusted = None
        self._cursors = OpenCursors()
        self.in_atomic_block = False
        self.closed_in_transaction = False
        self.needs_rollback = False
        self.savepoint_ids = []
        self.atomic_blocks = []
        self.run_on_commit = []


def _bind_to_thread(lease: Lease[Any], ident: int | None) -> None:
    """Have a lease end with the thread that acquired it, if that is the one with this ident."""
    record: PooledConnection[Any] | None = lease._owned
    if record is not None and lease._current:
        record.thread_bound = record.thread is not None and record.thread.ident == ident
