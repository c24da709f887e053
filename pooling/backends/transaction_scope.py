"""Transaction scope: leases that last only as long as something depends on their session.

With `OPTIONS["pool"]["scope"] = "transaction"` a view that queries, calls a service and queries
again holds a connection for its queries only. PgBouncer's transaction pooling does the same, and
loses what a client leaves in its session. Here such a lease is *pinned*, as in Amazon RDS Proxy: it
lasts until the end of the request, as with the scope "request".

A lease ends with the last open cursor, outside of `atomic`, in the autocommit mode of the settings
and without an open transaction, unless it is pinned. docs/transaction-scope.md is the contract.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from functools import lru_cache, partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pooling.backends.user_code import place
from pooling.backends.variants import variant_of
from pooling.core.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pooling.backends.base import PooledDatabaseWrapper

    _Wrapper = PooledDatabaseWrapper
else:
    _Wrapper = object

logger = logging.getLogger("pooling")

PLACES = 1000
"""How many places that pin leases are remembered, so as to log each of them once."""

_logged: set[tuple[str, str]] = set()
"""The reasons and places that were logged."""


def is_transaction_scoped(settings_dict: Mapping[str, Any]) -> bool:
    """Tell whether the settings of a database ask for this scope. Wrong ones are told later."""
    pool = (settings_dict.get("OPTIONS") or {}).get("pool")
    return isinstance(pool, dict) and pool.get("scope") == "transaction"


def transaction_scoped(wrapper_class: type) -> type:
    """Return the subclass of a class of wrappers with its name and this scope."""
    return variant_of(wrapper_class, TransactionScope)


class TransactionScope(_Wrapper):
    """Mixed into a pooled wrapper, it ends the lease when nothing depends on its session.

    Django's own methods lease a connection where they need one. Other callers of
    `ensure_connection` want `connection.connection`, so their call pins the lease.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_internal = False
        """Whether a method that uses the connection is running: nothing is released meanwhile."""
        self._pinned: object = None
        """The reference to the lease that lasts until the end of the request, if one does. Not the
        lease: the pool recovers one that an interrupt has lost when nothing refers to it."""
        self._open_cursors: dict[int, weakref.ref[Any]] = {}

    # ---- acquire -------------------------------------------------------------------------------

    def ensure_connection(self) -> None:
        """Lease a connection, for the rest of the request if this is not Django's own call."""
        self._run_internally(super().ensure_connection)
        if not self._is_internal:
            self._pin("ensure_connection()")

    def connect(self) -> None:
        """Lease a connection, for the rest of the request if this is not Django's own call."""
        self._run_internally(super().connect)
        if not self._is_internal:
            self._pin("connect()")

    def _run_internally(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method that uses the connection: nothing is released or pinned meanwhile."""
        is_internal, self._is_internal = self._is_internal, True
        try:
            return method(*args)
        finally:
            self._is_internal = is_internal

    def _cursor(self, name: str | None = None) -> Any:
        is_new_lease = self._lease is None
        try:
            cursor = self._run_internally(super()._cursor, name)  # type: ignore[misc]
        except BaseException:
            self._release_if_free()
            raise
        cursor.is_first = is_new_lease and self._lease is not None
        return cursor

    def _prepare_cursor(self, cursor: Any) -> Any:
        number = id(cursor)
        self._open_cursors[number] = weakref.ref(cursor, partial(self._forget_cursor, number))
        wrapped = super()._prepare_cursor(cursor)  # type: ignore[misc]  # not in the stubs
        with contextlib.suppress(TypeError):  # another package's, of which the end is seen alone
            cursor_class: Any = type(wrapped)
            wrapped.__class__ = _reporting(cursor_class)
        return wrapped

    def _refuse_session_read(self, sql: str) -> None:
        """Raise if a statement, the first one of its lease, reads what another one has left."""
        driver: Any = None if self._lease is None else self._lease._pool._driver
        if driver is not None and (found := driver.reads_session(sql)):
            with self.wrap_database_errors:
                raise self.Database.ProgrammingError(
                    f"{found}() tells of an earlier statement of the same session, and with "
                    "scope='transaction' this statement has another session: run both in one "
                    "cursor or in transaction.atomic(), or use RETURNING"
                )

    # ---- release -------------------------------------------------------------------------------

    def _close_cursor(self, cursor: Any) -> None:
        """Close a cursor, and end the lease if it was the last one."""
        try:
            cursor.close()
        finally:
            self._forget_cursor(id(cursor))

    def _forget_cursor(self, number: int, _reference: object = None) -> None:
        """End the lease if this was the last open cursor; it may have been garbage-collected.

        That may happen in another thread, which must not touch the connection: the lease ends with
        the next cursor, or with the request.
        """
        if self._thread_ident == get_ident() or self._thread_sharing_count:
            self._open_cursors.pop(number, None)
            self._release_if_free()

    def _exchange_cursor(self, old: Any, new: Any) -> None:
        """Note that a cursor of a new lease has taken the place of another."""
        number = id(new)
        self._open_cursors[number] = weakref.ref(new, partial(self._forget_cursor, number))
        self._open_cursors.pop(id(old), None)

    def _release_if_free(self) -> None:
        """Release the lease if nothing depends on its session; pin it if something may."""
        lease = self._lease
        connection = self.connection
        if (
            lease is None
            or connection is None
            or lease._reference is self._pinned
            or self._is_internal
            or self._open_cursors
            or self.in_atomic_block
            or self.autocommit != self.settings_dict["AUTOCOMMIT"]
        ):
            return
        driver: Any = lease._pool._driver
        reason = None
        try:
            if driver.is_in_transaction(connection):
                return  # begun by a statement, or with AUTOCOMMIT off
            reason = driver.session_change(connection)
        except Exception:
            # The release finds out what is usable.
            logger.debug("the state of a session is not known", exc_info=True)
        if self._thread_sharing_count:
            reason = "thread sharing"
        if reason is None:
            self._release()
        else:
            self._pin(reason)

    def close(self) -> None:
        """Release the connection, if there is one."""
        self._is_internal = False  # an interrupt may have left it
        super().close()

    def _release(self) -> None:
        self._open_cursors.clear()
        super()._release()

    def _pin(self, reason: str) -> None:
        """Keep the lease until the end of the request."""
        lease = self._lease
        if lease is None or lease._reference is self._pinned:
            return
        self._pinned = lease._reference
        with contextlib.suppress(PoolError):  # it is over, or this is a nested call
            lease._pool._pin(lease, reason)
        if logger.isEnabledFor(logging.DEBUG):
            _log_once(lease._pool.name, reason)

    # ---- transactions --------------------------------------------------------------------------

    def get_autocommit(self) -> bool:
        """Return the autocommit state, which is known before there is a connection.

        With AUTOCOMMIT off `atomic` asks this before it makes a savepoint, which needs one.
        """
        if (
            self.connection is None
            and self.settings_dict["AUTOCOMMIT"]
            and not self.in_atomic_block
        ):
            return True
        return bool(self._run_internally(super().get_autocommit))

    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None:
        """Begin or end a transaction; turning autocommit off without `atomic` pins the lease."""
        begins = force_begin_transaction_with_broken_autocommit  # only `atomic` says so
        if (
            self.connection is None
            and not self.in_atomic_block
            and autocommit == self.settings_dict["AUTOCOMMIT"]
        ):
            return  # it is so; the connection was given up as the transaction ended
        try:
            self._run_internally(super().set_autocommit, autocommit, begins)
        finally:
            if not autocommit and not begins and self.settings_dict["AUTOCOMMIT"]:
                self._pin("autocommit off")
            self._release_if_free()

    def run_and_clear_commit_hooks(self) -> None:
        """Run what waited for the commit, without a lease while it does not query."""
        is_internal, self._is_internal = self._is_internal, False
        try:
            self._release_if_free()
            super().run_and_clear_commit_hooks()
        finally:
            self._is_internal = is_internal

    def commit(self) -> None:
        """Commit, which ends the lease where the settings turn autocommit off."""
        super().commit()
        self._release_if_free()

    def rollback(self) -> None:
        """Roll back, which ends the lease where the settings turn autocommit off."""
        super().rollback()
        self._release_if_free()

    def schema_editor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a schema editor, which may use the driver's own connection at any time."""
        self._run_internally(self.ensure_connection)
        self._pin("schema editor")
        return super().schema_editor(*args, **kwargs)

    def inc_thread_sharing(self) -> None:
        """Allow other threads to use this wrapper, which pins its lease."""
        super().inc_thread_sharing()
        self._pin("thread sharing")


class _ReportingCursor:
    """Mixed into Django's class of cursors, it tells its wrapper when it is closed.

    The first statement of a lease is looked at: what it reads of the session is not its own.
    """

    db: Any
    cursor: Any
    is_first = False
    """Whether the next statement is the first one of its lease."""

    def close(self) -> None:
        self.db._close_cursor(self.cursor)

    def execute(self, sql: Any, params: Any = None) -> Any:
        if self.is_first:
            self.is_first = False
            self.db._refuse_session_read(str(sql))
        return super().execute(sql, params)  # type: ignore[misc]

    def executemany(self, sql: Any, param_list: Any) -> Any:
        self.is_first = False
        return super().executemany(sql, param_list)  # type: ignore[misc]

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        self.is_first = False
        return super().callproc(*args, **kwargs)  # type: ignore[misc]


@lru_cache(128)
def _reporting(cursor_class: type) -> type:
    """Return a subclass of a class of cursors, with its name, that reports its end."""
    namespace = {"__module__": cursor_class.__module__}
    return type(cursor_class.__name__, (_ReportingCursor, cursor_class), namespace)


def _log_once(pool: str, reason: str) -> None:
    """Log why and where a lease was pinned, once for each reason and place."""
    where = place()
    if (reason, where) not in _logged and len(_logged) < PLACES:
        _logged.add((reason, where))
        logger.debug(
            "pool %r: a connection is kept until the end of the request (%s) since %s",
            pool,
            reason,
            where,
        )
