"""Registry: the pools of this process, by what really identifies a server session.

Not by alias: a pool that was filled before a test run pointed its alias at the test database would
serve connections to the production database. A pool's key holds the effective connection
parameters, so another database name means another pool, whatever the alias.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from pooling.core import forks
from pooling.core.connection import DiscardReason
from pooling.core.pool import close_all
from pooling.core.threads import DAEMONS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

MANY_POOLS = 20
"""How many pools of one alias in a process are no cause for a warning."""

_LOCK = threading.Lock
"""What the locks of this process were made of when the pools' modules were imported."""


def _refuse_late_patching() -> None:
    """Raise if the standard library's threads were replaced after they had been taken over here."""
    if threading.Lock is not _LOCK:
        raise ImproperlyConfigured(
            "the standard library's threads were replaced (monkey.patch_all()) after the pool had "
            "been imported, so that its locks would stop the whole process: patch before Django is "
            "imported. With gunicorn's gevent workers and --preload that means in "
            "gunicorn.conf.py; see docs/deployment.md"
        )


class _Entry:
    """One pool of the registry."""

    __slots__ = ("alias", "database", "pool", "strong", "used_at")

    def __init__(self, pool: Pool[Any], database: str, alias: str, now: float) -> None:
        self.pool = weakref.ref(pool)
        self.strong: Pool[Any] | None = pool
        """The pool, as long as the registry keeps it alive."""
        self.database = database
        self.alias = alias
        self.used_at = now
        """When the pool was last looked up."""

    def open_pool(self) -> Pool[Any] | None:
        """Return the pool, if it still exists and is open."""
        pool = self.pool()
        return None if pool is None or pool.closed else pool


class Registry:
    """The pools of this process.

    Nothing is done under the lock but looking up and writing down: making a pool opens nothing.

    A pool that has given up all its connections, since it was not used for long, is no longer kept
    alive: if no wrapper is bound to it, it goes. Until then it is found as before, and it is kept
    again when it opens a connection; so there is one pool for a key at any moment.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._entries: dict[Hashable, _Entry] = {}
        self._retired: list[Pool[Any]] = []
        """Closed pools that may have leases out. They are kept until these are back."""
        self._warned: set[str] = set()
        """The aliases of which a warning has said that they have many pools."""
        self._lock = threading.RLock()  # a finaliser may run at any allocation, and use a pool
        forks.register(self)

    def find(self, key: Hashable) -> Pool[Any] | None:
        """Return the open pool for `key`, if there is one."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            entry.used_at = self._now()
            return entry.open_pool()

    def get(
        self, key: Hashable, database: str, alias: str, make: Callable[[], Pool[Any]]
    ) -> Pool[Any]:
        """Return the open pool for `key`, made now if there is none.

        Args:
            key: what identifies the sessions of the pool.
            database: the name of their database, by which `close_database` finds them.
            alias: the alias of `DATABASES` that needs it.
            make: makes the pool; it must not connect.
        """
        pool = self.find(key)
        if pool is not None:
            return pool
        _refuse_late_patching()
        made = make()
        with self._lock:
            # Another thread may have been here, and so may a signal handler in this one.
            entry = self._entries.get(key)
            pool = None if entry is None else entry.open_pool()
            if pool is None:
                retired = None if entry is None else entry.pool()
                self._entries[key] = _Entry(made, database, alias, self._now())
                pool = made
                if retired is not None:
                    self._retired.append(retired)
        if pool is made:
            self._tidy()
            self._warn_of_many(alias)
        return pool

    def pools(self) -> list[Pool[Any]]:
        """Return the pools that are open."""
        with self._lock:
            found = [entry.open_pool() for entry in self._entries.copy().values()]
        return [pool for pool in found if pool is not None]

    def keep_alive(self, pool: Pool[Any]) -> None:
        """Keep a pool alive, which has connections now."""
        for entry in self._entries_of(pool):
            entry.strong = pool

    def drop_if_unused(self, pool: Pool[Any], reason: DiscardReason | None) -> None:
        """Keep a pool alive no longer if it has closed its last connection for want of use."""
        if reason is DiscardReason.IDLE and not pool.stats().size:
            for entry in self._entries_of(pool):
                self._drop(entry, pool)

    def _drop(self, entry: _Entry, pool: Pool[Any]) -> None:
        """Keep a pool alive no longer, unless it is used again at this moment.

        The pool may open a connection between the caller's look at it and here, and then
        `keep_alive` has come too early. So it is looked at again: what is opened later comes later
        to `keep_alive`.
        """
        entry.strong = None
        stats = pool.stats()
        if stats.size or stats.waiting:
            entry.strong = pool

    def _entries_of(self, pool: Pool[Any]) -> list[_Entry]:
        with self._lock:
            return [entry for entry in self._entries.copy().values() if entry.pool() is pool]

    def _tidy(self) -> None:
        """Forget pools that are gone, and let go of those that are empty and not asked for."""
        now = self._now()
        with self._lock:
            for key in [key for key, entry in self._entries.copy().items() if entry.pool() is None]:
                del self._entries[key]
            entries = [entry for entry in self._entries.copy().values() if entry.strong is not None]
        for entry in entries:
            pool = entry.strong
            if pool is not None:
                max_idle = pool.config.max_idle
                if max_idle is not None and now - entry.used_at >= max_idle:
                    self._drop(entry, pool)
        self._retire([])

    def _warn_of_many(self, alias: str) -> None:
        """Say once of an alias that it has many pools: each has its own connections and limits."""
        with self._lock:
            count = sum(
                entry.alias == alias and entry.open_pool() is not None
                for entry in self._entries.copy().values()
            )
            if count <= MANY_POOLS or alias in self._warned:
                return
            self._warned.add(alias)
        logger.warning(
            "DATABASES[%r] has %d pools in this process, each with up to max_size connections. If "
            "it does not lead to so many databases, its connection parameters differ from call to "
            "call: look at get_connection_params() of its ENGINE",
            alias,
            count,
        )

    def close_database(self, database: str) -> None:
        """Close the pools that have sessions on `database`, on whatever server.

        Their users notice nothing: the next connection they ask for comes from a new pool.
        """
        with self._lock:
            keys = [
                key for key, entry in self._entries.copy().items() if entry.database == database
            ]
            closing = [self._entries.pop(key).pool() for key in keys]
        pools = [pool for pool in closing if pool is not None]
        for pool in pools:
            pool.close()
        self._retire(pools)

    def _retire(self, closed: list[Pool[Any]]) -> None:
        """Keep closed pools until all their leases are back, and let go of those that have that."""
        with self._lock:
            self._retired += closed
            retired = list(self._retired)
        # Without our lock, since a pool is asked for its size under its own.
        empty = [pool for pool in retired if not pool.stats().size]
        with self._lock:
            self._retired = [pool for pool in self._retired if pool not in empty]

    def close_all(self) -> None:
        """Close every pool at the end of the process."""
        with self._lock:
            closing = [pool for entry in self._entries.copy().values() if (pool := entry.pool())]
            self._entries.clear()
        close_all(closing)
        for pool in closing:
            pool._leave_leases()  # noqa: SLF001

    def after_fork_in_child(self) -> None:
        """Take a new lock. The pools, which empty themselves, go on under their keys."""
        self._lock = threading.RLock()


REGISTRY = Registry()


@atexit.register
def _shut_down() -> None:
    """End all sessions properly, without waiting for other threads.

    What this thread still holds is released first; what daemon threads hold at this moment is left
    to the operating system, since closing a connection under a running query may block or crash.
    """
    DAEMONS.stop()
    if not REGISTRY.pools():
        return  # perhaps Django was never configured, and then its connections cannot be asked for
    for wrapper in connections.all(initialized_only=True):
        try:
            wrapper.close()
        except Exception:
            logger.debug("closing %r at exit failed", wrapper, exc_info=True)
    REGISTRY.close_all()


def pool_of_alias(alias: str) -> Pool[Any]:
    """Return the pool behind an alias of `DATABASES`; see `pooling.get_pool`."""
    wrapper = connections[alias]
    resolve = getattr(wrapper, "resolve_pool", None)
    if resolve is None:
        raise ImproperlyConfigured(
            f"DATABASES[{alias!r}] has no pool: its ENGINE is "
            f"{wrapper.settings_dict['ENGINE']!r}, not one of pooling.backends"
        )
    pool: Pool[Any] | None = resolve()
    if pool is None:
        raise ImproperlyConfigured(
            f"DATABASES[{alias!r}] has no pool: OPTIONS['pool'] is False, "
            "or it is a SQLite database in memory"
        )
    return pool
