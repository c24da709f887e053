"""The notice board: what processes put into Django's cache, and how all of it is read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache

from pooling.core.workers import WORKERS
from pooling.fleet.options import FleetOptions, fleet_options
from pooling.fleet.shapes import is_snapshot
from pooling.fleet.snapshots import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.cache.backends.base import BaseCache

logger = logging.getLogger("pooling")

T = TypeVar("T")

PATIENCE = 1.5
"""Seconds a reader waits for the cache; whoever looks at pools wants an answer above all."""

INDEX_LIFETIME = 3600.0
"""Seconds after which the index forgets a process. Its own entry says sooner that it is gone: the
index is only the list of those to ask for, and one too many in it does no harm."""

INDEX_EVERY = 15.0
"""Seconds after which a process writes itself into the index again. Two processes that write at
the same time may cross each other out; this is how that heals, besides a look at each turn."""


RUBBISH = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What data from the cache can raise that is not what it should be."""


class FleetError(Exception):
    """The cache through which processes reach each other failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """What one look at the notice board shows.

    Attributes:
        processes: their snapshots, each with its `age` in seconds; this process first and fresh.
        alone: why no other process can be seen at all, `None` if others can.
        problem: what went wrong with the cache just now, so that others may be missing.
    """

    processes: list[dict[str, Any]]
    alone: str | None
    problem: str | None


def cache_and_reason(options: FleetOptions) -> tuple[BaseCache | None, str | None]:
    """Return the cache to use, or the reason why there is none that other processes share."""
    if options.publish_every is None:
        return None, "publishing is turned off: POOLING['publish_every'] is None"
    try:
        cache = caches[options.cache]
    except (InvalidCacheBackendError, ImportError) as error:
        return None, f"there is no cache {options.cache!r}: {error}"
    kind = type(cache).__name__
    if isinstance(cache, (LocMemCache, DummyCache)):
        return None, f"the cache {options.cache!r} is a {kind}, which every process has for itself"
    if isinstance(cache, BaseDatabaseCache):
        # Watching must not need what it watches: exactly when a pool is exhausted it would see
        # nothing, and until then each process would lease a connection every two seconds.
        return None, f"the cache {options.cache!r} is a {kind}, which needs a connection itself"
    return cache, None


def sees_one_process() -> bool:
    """Tell whether the cache cannot carry anything from one process to another."""
    return cache_and_reason(fleet_options())[0] is None


def processes() -> list[dict[str, Any]]:
    """Return the snapshots of all processes, this one's first; see `Fleet`."""
    return see().processes


def see() -> Fleet:
    """Look at all processes. Raises nothing, and waits `PATIENCE` seconds for the cache at most."""
    own = snapshot()
    own["age"] = 0.0
    options = fleet_options()
    reason = cache_and_reason(options)[1]
    if reason is not None:
        return Fleet([own], reason, None)
    try:
        found = bounded(lambda: Board(options).read())
    except FleetError as error:
        return Fleet([own], None, str(error))
    others = [other for other in found if other["id"] != own["id"]]
    others.sort(key=lambda other: (other["host"], other["pid"]))
    return Fleet([own, *others], None, None)


def bounded(job: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Do a job with the cache in a worker, and wait for it a moment at most.

    Raises:
        FleetError: it failed, or is not finished.
    """
    done = threading.Event()
    results: list[T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(job())
        except Exception as error:
            errors.append(error)
        finally:
            done.set()

    WORKERS.run(work)
    if not done.wait(seconds):
        raise FleetError(f"the cache did not answer within {seconds} s")
    if errors:
        # The text of the error may quote the cache's address, which may hold a password.
        raise FleetError(f"the cache failed: {type(errors[0]).__name__}") from errors[0]
    return results[0]


class Board:
    """The entries in the cache. Its methods do I/O, and raise what the cache raises."""

    def __init__(self, options: FleetOptions) -> None:
        cache, reason = cache_and_reason(options)
        if cache is None:
            raise FleetError(reason)
        self._cache = cache
        self._options = options

    def _key(self, *parts: str) -> str:
        return ":".join((self._options.prefix, "fleet", *parts))

    def publish(self, entry: dict[str, Any]) -> None:
        """Put up a process's snapshot, and see to it that the index knows the process."""
        lifetime = self._options.lifetime
        self._cache.set(self._key("process", entry["id"]), json.dumps(entry), lifetime)
        index = self._index()
        now = time.time()
        if not now - INDEX_EVERY < index.get(entry["id"], 0.0) <= now:
            index = {id_: seen for id_, seen in index.items() if seen > now - INDEX_LIFETIME}
            index[entry["id"]] = now
            self._cache.set(self._key("index"), json.dumps(index), INDEX_LIFETIME)

    def read(self) -> list[dict[str, Any]]:
        """Return all snapshots that have not expired."""
        keys = [self._key("process", id_) for id_ in self._index()]
        found = []
        now = time.time()
        for text in self._cache.get_many(keys).values():
            with contextlib.suppress(*RUBBISH):
                entry = json.loads(text)
                if is_snapshot(entry):
                    entry["age"] = max(now - entry["time"], 0.0)
                    found.append(entry)
        return found

    def _index(self) -> dict[str, float]:
        index = self._load("index", {})
        if not isinstance(index, dict):
            return {}
        return {id_: seen for id_, seen in index.items() if isinstance(seen, (int, float))}

    def orders(self) -> list[dict[str, Any]]:
        """Return the orders that are up, oldest first."""
        orders = self._load("orders", [])
        return orders if isinstance(orders, list) else []

    def put_orders(self, orders: list[dict[str, Any]], lifetime: float) -> None:
        """Put these orders up instead of those that are there."""
        self._cache.set(self._key("orders"), json.dumps(orders), lifetime)

    def _load(self, name: str, default: Any) -> Any:
        text = self._cache.get(self._key(name))
        if text is None:
            return default
        try:
            return json.loads(text)
        except RUBBISH:
            return default
