"""Replayed reads: with `OPTIONS["pool"]["replay_reads"]` a read survives the end of its session.

A server that restarts, fails over or terminates sessions takes those along that are in use at that
moment. A pool sees it when a statement fails. If that was the first one of its lease and only
reads, nothing depends on the session yet, and it is run once more on another one: what Oracle calls
Application Continuity, for the case in which it is safe without recording anything.
"""

from __future__ import annotations

import contextlib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db.utils import DatabaseError, InterfaceError

from pooling.formatting import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.backends.base import PooledDatabaseWrapper

    _Wrapper = PooledDatabaseWrapper
else:
    _Wrapper = object

logger = logging.getLogger("pooling")


def replays_reads(settings_dict: Mapping[str, Any]) -> bool:
    """Tell whether the settings of a database ask for it. Wrong ones are told later."""
    pool = (settings_dict.get("OPTIONS") or {}).get("pool")
    return isinstance(pool, dict) and pool.get("replay_reads") is True


@lru_cache(128)  # classes may be made per call
def replaying(wrapper_class: type) -> type:
    """Return a subclass of a class of wrappers, with its name, that replays reads."""
    if issubclass(wrapper_class, ReplayedReads):
        return wrapper_class
    namespace = {
        "__module__": wrapper_class.__module__,
        "__qualname__": wrapper_class.__qualname__,
        "plain_class": getattr(wrapper_class, "plain_class", None) or wrapper_class,
    }
    return type(wrapper_class.__name__, (ReplayedReads, wrapper_class), namespace)


class ReplayedReads(_Wrapper):
    """Mixed into a pooled wrapper, it runs the first statement of a lease once more if need be."""

    def _cursor(self, name: str | None = None) -> Any:
        is_new_lease = self._lease is None
        cursor = super()._cursor(name)  # type: ignore[misc]  # not in the stubs
        # A lease that was there may have been used past Django, so its session may matter.
        if is_new_lease and name is None and self._lease is not None:
            cursor_class: Any = type(cursor)
            with contextlib.suppress(TypeError):  # another package's
                cursor.__class__ = _replaying_cursor(cursor_class)
                cursor.is_unused = True
        return cursor

    def _may_replay(self, sql: Any, params: Any) -> bool:
        """Tell whether the first statement of a lease, which has failed, may be run again."""
        lease, connection = self._lease, self.connection
        if lease is None or connection is None or self.in_atomic_block or not self.autocommit:
            return False
        driver: Any = lease._pool._driver
        return (
            driver.session_has_ended(connection)
            and (params is None or isinstance(params, (tuple, list, dict)))  # no used-up iterator
            and driver.is_plain_read(sql)
        )

    def _cursor_of_another_session(self, cursor: Any, error: BaseException) -> Any:
        """Give the lease up, and return a cursor of a new one; blocks for the pool's `timeout`."""
        lease = self._lease
        if lease is not None:
            pool = lease._pool
            self._forget_open_cursor(cursor)
            self._drop(lease)
            pool._count_replay()
            logger.info(
                "%r: a read is run again, since its session had ended: %s", pool, one_line(error)
            )
        return self._cursor().cursor

    def _forget_open_cursor(self, cursor: Any) -> None:
        """Forget a cursor whose session has ended; with scope="transaction" it keeps the lease."""
        getattr(self, "_open_cursors", {}).pop(id(cursor), None)


class _ReplayingCursor:
    """Mixed into Django's class of cursors, below its execute wrappers: they see one statement."""

    db: Any
    cursor: Any
    is_unused = False
    """Whether the next statement is the first one of its lease."""

    def _execute(self, sql: Any, params: Any, *args: Any) -> Any:
        may_replay, self.is_unused = self.is_unused, False
        try:
            return super()._execute(sql, params, *args)  # type: ignore[misc]
        except (DatabaseError, InterfaceError) as error:
            if not (may_replay and self.db._may_replay(sql, params)):
                raise
            self.cursor = self.db._cursor_of_another_session(self.cursor, error)
        return super()._execute(sql, params, *args)  # type: ignore[misc]

    def _executemany(self, sql: Any, param_list: Any, *args: Any) -> Any:
        self.is_unused = False
        return super()._executemany(sql, param_list, *args)  # type: ignore[misc]

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        self.is_unused = False
        return super().callproc(*args, **kwargs)  # type: ignore[misc]


@lru_cache(128)
def _replaying_cursor(cursor_class: type) -> type:
    """Return a subclass of a class of cursors, with its name, that replays reads."""
    namespace = {"__module__": cursor_class.__module__}
    return type(cursor_class.__name__, (_ReplayingCursor, cursor_class), namespace)
