"""ReplayReads: run a read again whose session ended, when it was the first statement of its lease.

With `OPTIONS["pool"]["replay_reads"]` a session that a restart, a fail-over or an administrator has
ended costs no request an error if nothing depends on it: no transaction, no earlier statement, and
a statement that only reads. With `scope="transaction"` that is every read outside of `atomic`.
"""

from __future__ import annotations

import contextlib
import logging
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.utils import Error

from pooling.backends.variants import variant_of
from pooling.core import messages
from pooling.core.clock import SYSTEM_CLOCK
from pooling.core.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pooling.backends.base import PooledDatabaseWrapper
    from pooling.core.connection import Lease

    _Wrapper = PooledDatabaseWrapper
else:
    _Wrapper = object

logger = logging.getLogger("pooling")


def replays_reads(settings_dict: Mapping[str, Any]) -> bool:
    """Tell whether the settings of a database ask for it. Wrong ones are told later."""
    pool = (settings_dict.get("OPTIONS") or {}).get("pool")
    return isinstance(pool, dict) and pool.get("replay_reads") is True


def replaying(wrapper_class: type) -> type:
    """Return the subclass of a class of wrappers with its name that replays reads."""
    return variant_of(wrapper_class, ReplayReads)


class Attempt(NamedTuple):
    """A lease that has run no statement yet."""

    reference: object
    """The lease's. Not the lease: the pool recovers one that nothing refers to."""
    deadline: float | None
    """Until when there may be another session for its first statement: the pool's `timeout`."""


class ReplayReads(_Wrapper):
    """Mixed into a pooled wrapper, it knows the first statement of a lease, and may replace that.

    A lease counts if making a cursor has begun it: other callers want `connection.connection`, and
    may have done anything with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._attempt: Attempt | None = None
        """The present lease, as long as it has run no statement."""

    def _cursor(self, name: str | None = None) -> Any:
        is_new_lease = self._lease is None
        began = SYSTEM_CLOCK.now()
        cursor = super()._cursor(name)  # type: ignore[misc]
        lease = self._lease
        if is_new_lease and lease is not None and not name:
            timeout = self.acquire_timeout
            if timeout is None:
                timeout = lease._pool.config.timeout
            deadline = None if timeout is None else began + timeout
            self._attempt = Attempt(lease._reference, deadline)
        return cursor

    def _prepare_cursor(self, cursor: Any) -> Any:
        wrapped = super()._prepare_cursor(cursor)  # type: ignore[misc]  # not in the stubs
        with contextlib.suppress(TypeError):  # another package's: its reads are not replayed
            cursor_class: Any = type(wrapped)
            wrapped.__class__ = _replaying_cursor(cursor_class)
        return wrapped

    def _begin_statement(self, sql: object, params: object) -> Attempt | None:
        """Return what a statement needs to be run again; None if it may not be."""
        attempt, self._attempt = self._attempt, None
        lease = self._lease
        if (
            attempt is None
            or lease is None
            or lease._reference is not attempt.reference
            or self.in_atomic_block
            or not self.autocommit
            or self._thread_sharing_count
        ):
            return None
        driver: Any = lease._pool._driver
        try:
            return attempt if driver.may_replay(self.connection, sql, params) else None
        except self.Database.Error:
            return None  # the statement will tell

    def _replay(self, cursor: Any, attempt: Attempt, error: Error, run: Callable[[], Any]) -> Any:
        """Run a statement again whose session has ended, on a session that was opened since then.

        Sessions that were open already may have been ended together with the first one. If they
        work they serve as well, so they are tried before.
        """
        failed_at = SYSTEM_CLOCK.now()
        reference = attempt.reference
        try:
            while True:
                left = None if attempt.deadline is None else attempt.deadline - SYSTEM_CLOCK.now()
                lease, connection = self._lease, self.connection
                if (
                    lease is None
                    or connection is None
                    or lease._reference is not reference
                    or (left is not None and left <= 0)
                    or not _has_ended(lease, connection, error, failed_at)
                ):
                    raise error
                reason = messages.error_text(error)
                new_lease = self._run_internally(self._replace, cursor, lease, left)
                reference, pool = new_lease._reference, new_lease._pool
                with contextlib.suppress(PoolError):  # this is a nested call
                    pool._count_replay()
                logger.info("%r: running a read again: its session ended: %s", pool, reason)
                try:
                    return run()
                except Error as again:
                    error = again
        finally:
            del error  # its traceback holds this frame

    def _replace(self, cursor: Any, lease: Lease[Any], left: float | None) -> Lease[Any]:
        """Put another connection in the place of a lease's, and a cursor of it into `cursor`."""
        old = cursor.cursor
        self._drop(lease)
        with contextlib.suppress(Exception):
            old.close()
        own, self.acquire_timeout = self.acquire_timeout, left
        try:
            with self.wrap_database_errors:
                self.connect()
        finally:
            self.acquire_timeout = own
        with self.wrap_database_errors:
            new = self.create_cursor()
        self._exchange_cursor(old, new)
        cursor.cursor = new
        new_lease = self._lease
        if new_lease is None:  # a signal handler has closed the connection
            with self.wrap_database_errors:
                raise self.Database.InterfaceError("connection already closed")
        return new_lease

    def _run_internally(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method that uses the connection; with transaction scope this does more."""
        return method(*args)

    def _exchange_cursor(self, old: Any, new: Any) -> None:
        """Note that a cursor has taken the place of another."""


def _has_ended(lease: Lease[Any], connection: Any, error: Error, failed_at: float) -> bool:
    """Tell whether a session has ended that was open at a time."""
    driver: Any = lease._pool._driver
    return bool(
        driver.has_ended(connection, error.__cause__) and driver.opened_at(connection) <= failed_at
    )


class _ReplayingCursor:
    """Mixed into Django's class of cursors, it runs a read again whose session has ended."""

    db: Any

    def _execute(self, sql: Any, params: Any, *args: Any) -> Any:
        attempt = self.db._begin_statement(sql, params)
        run: Callable[[], Any] = partial(super()._execute, sql, params, *args)  # type: ignore[misc]
        if attempt is None:
            return run()
        try:
            return run()
        except Error as error:
            return self.db._replay(self, attempt, error, run)

    def _executemany(self, *args: Any) -> Any:
        self.db._attempt = None
        return super()._executemany(*args)  # type: ignore[misc]

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        self.db._attempt = None
        return super().callproc(*args, **kwargs)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the driver's cursor, by which anything may be run (`copy`)."""
        self.db._attempt = None
        return super().__getattr__(name)  # type: ignore[misc]


@lru_cache(128)
def _replaying_cursor(cursor_class: type) -> type:
    """Return a subclass of a class of cursors, with its name, that replays reads."""
    namespace = {"__module__": cursor_class.__module__}
    return type(cursor_class.__name__, (_ReplayingCursor, cursor_class), namespace)
