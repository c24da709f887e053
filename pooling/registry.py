"""The pools of this process, by what really identifies a server session.

Not by alias: a pool that was filled before a test run pointed its alias at the test database would
serve connections to the production database. A pool's key holds the effective connection
parameters, so another database name means another pool, whatever the alias.
"""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from pooling.core import forks
from pooling.core.pool import close_all
from pooling.core.threads import DAEMONS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

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


class Registry:
    """The pools of this process.

    Nothing is done under the lock but looking up and writing down: making a pool opens nothing.
    """

    def __init__(self) -> None:
        self._pools: dict[Hashable, tuple[str, Pool[Any]]] = {}
        self._retired: list[Pool[Any]] = []
        """Closed pools that may have leases out. Somebody has to keep them until these are back."""
        self._lock = threading.RLock()  # a finaliser may run at any allocation, and use a pool
        forks.register(self)

    def get(self, key: Hashable, database: str, make: Callable[[], Pool[Any]]) -> Pool[Any]:
        """Return the open pool for `key`, made now if there is none.

        Args:
            key: what identifies the sessions of the pool.
            database: the name of their database, by which `close_database` finds them.
            make: makes the pool; it must not connect.
        """
        retiring: list[Pool[Any]] = []
        with self._lock:
            _, pool = self._pools.get(key, (None, None))
            if pool is not None and pool.closed:
                retiring.append(pool)
                pool = None
            if pool is None:
                _refuse_late_patching()
                pool = make()
                self._pools[key] = (database, pool)
        if retiring:
            self._retire(retiring)
        return pool

    def pools(self) -> list[Pool[Any]]:
        """Return the pools that are open."""
        with self._lock:
            return [pool for _, pool in self._pools.values() if not pool.closed]

    def close_database(self, database: str) -> None:
        """Close the pools that have sessions on `database`, on whatever server.

        Their users notice nothing: the next connection they ask for comes from a new pool.
        """
        with self._lock:
            keys = [key for key, (name, _) in self._pools.items() if name == database]
            closing = [self._pools.pop(key)[1] for key in keys]
        for pool in closing:
            pool.close()
        self._retire(closing)

    def _retire(self, closed: list[Pool[Any]]) -> None:
        """Keep closed pools until nothing of theirs is out, and let go of those that have that."""
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
            closing = [pool for _, pool in self._pools.values()]
            self._pools.clear()
        close_all(closing)
        for pool in closing:
            pool._leave_leases()  # noqa: SLF001

    def after_fork_in_child(self) -> None:
        """Take a new lock. The pools, which empty themselves, go on under their keys."""
        self._lock = threading.RLock()


REGISTRY = Registry()


@atexit.register
def _shut_down() -> None:
    """End all sessions politely, without waiting for anybody.

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
