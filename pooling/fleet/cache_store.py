"""Storage of snapshots and commands in Django's cache, and reading all of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache

from pooling.core import forks
from pooling.core.worker_threads import WORKERS
from pooling.fleet.archive import Archive, is_archive, new_archive, roll
from pooling.fleet.options import FleetOptions, fleet_options
from pooling.fleet.schema import is_command, is_snapshot
from pooling.fleet.snapshots import IDENTITY, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.cache.backends.base import BaseCache

logger = logging.getLogger("pooling")

T = TypeVar("T")

COMMAND_LIFETIME = 60.0
"""Seconds for which a command is run by processes that start meanwhile, and belongs to the
history."""

READ_TIMEOUT = 1.5
"""Seconds a reader waits for the cache."""

MAX_CALLS = 8
"""Calls of readers to the cache at the same time. One that hangs keeps its thread: a page that
refreshes itself every other second must not collect threads while the cache hangs."""

SILENT_FOR = 60.0
"""Seconds for which a process that stopped publishing is shown as silent. After that it counts as
one that has left."""

ARCHIVE_LIFETIME = 2 * 86400.0
MAX_ARCHIVE = 900_000
"""Bytes of the history at most: Memcached takes 1 MB."""

ROLL_EVERY = 5.0
"""Seconds between two additions to the history, whichever process makes them. An addition reads all
snapshots: if each process made its own, the cost would grow with the square of their number."""

LOCK_LIFETIME = 15.0
"""Seconds after which another process may write the history, if the last one did not finish."""

INDEX_LIFETIME = 3600.0
"""Seconds a process stays in the index after it last wrote itself there. The index only lists the
keys to read: the entry of a process that ended has expired long before."""

INDEX_REFRESH = 15.0
"""Seconds after which a process writes itself into the index again. Two processes that write at
the same time may overwrite each other; a process that finds itself missing also writes again."""

INDEX_PARTS = 64
"""Parts of the index, each with some of the processes: of hundreds that start in the same moment
only few write the same part."""

DECODE_ERRORS = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""Raised while decoding cache data that is malformed."""


class FleetError(Exception):
    """The cache that the processes share failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """The processes and their pools, as read at one moment.

    Attributes:
        processes: their snapshots, each with its `age` in seconds; this process first, with age 0.
            One that is `silent` has stopped publishing.
        archive: their history; see `pooling.fleet.archive`.
        isolation_reason: why no other process can be seen at all; `None` if others can.
        problem: why reading the cache failed, so that others may be missing; `None` if it did not.
    """

    processes: list[dict[str, Any]]
    archive: Archive
    isolation_reason: str | None
    problem: str | None


def load_cache(alias: str) -> BaseCache:
    """Return a cache of `CACHES`, without I/O.

    Raises:
        FleetError: there is no such alias, or its backend or the package it needs is missing.
    """
    try:
        cache = caches[alias]
        # Django's backends import the client library with the first use of the client.
        with contextlib.suppress(AttributeError, ValueError):
            cache._cache  # type: ignore[attr-defined]  # noqa: B018, SLF001
    except (InvalidCacheBackendError, ImportError) as error:
        raise FleetError(f"CACHES[{alias!r}] cannot be loaded: {error}") from error
    return cache


def usable_cache(options: FleetOptions) -> tuple[BaseCache | None, str | None]:
    """Return the cache to use, or why there is none that processes can share."""
    if options.publish_every is None:
        return None, "publishing is turned off: POOLING['publish_every'] is None"
    try:
        cache = load_cache(options.cache)
    except FleetError as error:
        return None, str(error)
    kind = type(cache).__name__
    if isinstance(cache, (LocMemCache, DummyCache)):
        return None, f"the cache {options.cache!r} is a {kind}, private to each process"
    if isinstance(cache, BaseDatabaseCache):
        # Monitoring must not use the pools it monitors: it would fail when one is exhausted, and
        # each process would lease a connection every two seconds.
        return None, f"the cache {options.cache!r} is a {kind}, which needs a database connection"
    return cache, None


def sees_one_process() -> bool:
    """Tell whether there is no cache through which this process can see others."""
    return usable_cache(fleet_options())[0] is None


def processes() -> list[dict[str, Any]]:
    """Return the snapshots of all processes that are not silent, this one's first."""
    return [process for process in read_all().processes if not process["silent"]]


def read_all() -> Fleet:
    """Return the snapshots of all processes. Raises nothing; blocks `READ_TIMEOUT` s at most."""
    from pooling.fleet.commands import COMMAND_LOG
    from pooling.fleet.publisher import PUBLISHER

    own = {**snapshot(), "age": 0.0, "silent": False}
    options = fleet_options()
    reason = usable_cache(options)[1]
    if reason is not None:
        return Fleet([own], PUBLISHER.archive(), reason, None)
    try:
        found, archive, commands = with_timeout(lambda: CacheStore(options).read_all())
    except FleetError as error:
        archive = roll(new_archive(), [own], COMMAND_LOG.sent(), time.time())
        return Fleet([own], archive, None, str(error))
    others = [other for other in found if other["id"] != own["id"]]
    others.sort(key=lambda other: (other["host"], other["pid"]))
    commands = [*commands, *COMMAND_LOG.sent()]
    archive = roll(archive, [own, *others], commands, time.time())
    present = [own, *(other for other in others if not other["left"])]
    return Fleet(present, archive, None, None)


def close_caches() -> None:
    """Close this thread's clients of Django's caches, as Django does after a request.

    A worker may end, and would leave their connections open. Raises no `Exception`.
    """
    try:
        caches.close_all()
    except Exception:
        logger.debug("a cache cannot be closed", exc_info=True)


class Calls:
    """The calls of readers to the cache that have not come back."""

    def __init__(self) -> None:
        self.running: set[object] = set()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Forget those of the parent's threads."""
        self.running = set()


CALLS = Calls()
"""Those of this process."""


def with_timeout(job: Callable[[], T], seconds: float | None = None) -> T:
    """Run a job on the cache in a worker and wait for its result.

    Args:
        job: what to run.
        seconds: how long to wait; `READ_TIMEOUT` by default. The job itself is not interrupted.

    Raises:
        FleetError: the job failed, or did not finish in time, or too many earlier ones hang.
    """
    seconds = READ_TIMEOUT if seconds is None else seconds
    done = threading.Event()
    results: list[T] = []
    errors: list[Exception] = []
    begun, calls = object(), CALLS.running

    def work() -> None:
        try:
            results.append(job())
        except Exception as error:
            errors.append(error)
        finally:
            close_caches()
            calls.discard(begun)
            done.set()

    if len(calls) >= MAX_CALLS:
        raise FleetError(f"the cache has not answered {MAX_CALLS} earlier calls")
    calls.add(begun)
    try:
        WORKERS.run(work)
    except BaseException:
        calls.discard(begun)
        raise
    if not done.wait(seconds):
        raise FleetError(f"the cache did not answer within {seconds} s")
    if errors:
        # The type only: the text may quote the cache's address, which may contain a password.
        raise FleetError(f"the cache failed: {type(errors[0]).__name__}") from errors[0]
    return results[0]


def _has_ended(entry: dict[str, Any]) -> bool:
    """Tell whether a process has ended, as far as another one of its host can see."""
    if entry["host"] != IDENTITY.host:
        return False
    try:
        os.kill(int(entry["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


class CacheStore:
    """The fleet's entries in the cache. The methods do I/O and raise what the cache raises."""

    def __init__(self, options: FleetOptions) -> None:
        cache, reason = usable_cache(options)
        if cache is None:
            raise FleetError(reason)
        self._cache = cache
        self._options = options

    def _key(self, *parts: str) -> str:
        return ":".join((self._options.prefix, "fleet", *parts))

    def publish(self, entry: dict[str, Any]) -> None:
        """Write a process's snapshot, and the process into the index if it is not there."""
        lifetime = self._options.lifetime + SILENT_FOR
        id_ = entry["id"]
        self._cache.set(self._key("process", id_), json.dumps(entry), lifetime)
        part = self._index_key(zlib.crc32(id_.encode()) % INDEX_PARTS)
        index = _index(self._cache.get(part))
        now = time.time()
        if not now - INDEX_REFRESH < index.get(id_, 0.0) <= now:
            index = {other: seen for other, seen in index.items() if seen > now - INDEX_LIFETIME}
            index[id_] = now
            self._cache.set(part, json.dumps(index), INDEX_LIFETIME)

    def read(self) -> list[dict[str, Any]]:
        """Return all snapshots that have not expired, those of processes that left included."""
        parts = self._cache.get_many(map(self._index_key, range(INDEX_PARTS)))
        keys = [self._key("process", id_) for part in parts.values() for id_ in _index(part)]
        found = []
        now = time.time()
        for text in self._cache.get_many(keys).values():
            with contextlib.suppress(*DECODE_ERRORS):
                entry = json.loads(text)
                if is_snapshot(entry):
                    entry["age"] = max(now - entry["time"], 0.0)
                    entry["silent"] = entry["age"] > self._options.lifetime
                    entry["left"] = entry["left"] or (
                        entry["silent"] and (entry["age"] > SILENT_FOR or _has_ended(entry))
                    )
                    found.append(entry)
        return found

    def read_all(self) -> tuple[list[dict[str, Any]], Archive, list[dict[str, Any]]]:
        """Return all snapshots, the history and the commands."""
        begin = time.time() - COMMAND_LIFETIME
        recent = [command for command in self.commands() if command["time"] > begin]
        return self.read(), self._archive(), recent

    def roll_archive(self, sent: list[dict[str, Any]]) -> None:
        """Add to the history what was published since, unless another process has just done so."""
        lock = self._key("archive-lock")
        began = time.monotonic()
        if not self._cache.add(lock, "locked", LOCK_LIFETIME):
            return
        try:
            found, archive, commands = self.read_all()
            # Others may have to publish the end of a slot yet.
            lag = self._options.lifetime
            archive = roll(archive, found, [*commands, *sent], time.time(), lag=lag)
            self._set_archive(archive)
        finally:
            # The others leave it alone until the next addition is due. Not `touch`, which a backend
            # need not have.
            left = began + ROLL_EVERY - time.monotonic()
            self._cache.set(lock, "done", max(left, 0.0))

    def _set_archive(self, archive: Archive) -> None:
        """Write the history; without the pools seen longest ago if it is too large."""
        while True:
            data = zlib.compress(json.dumps(archive).encode())
            if len(data) <= MAX_ARCHIVE or not archive["pools"]:
                break
            del archive["pools"][
                min(archive["pools"], key=lambda id_: archive["pools"][id_]["seen"])
            ]
        self._cache.set(self._key("archive"), data, ARCHIVE_LIFETIME)

    def _archive(self) -> Archive:
        data = self._cache.get(self._key("archive"))
        archive: Any
        try:
            archive = json.loads(zlib.decompress(data)) if data is not None else None
        except (*DECODE_ERRORS, zlib.error):
            archive = None
        return archive if is_archive(archive) else new_archive()

    def _index_key(self, number: int) -> str:
        return self._key("index", str(number))

    def commands(self) -> list[dict[str, Any]]:
        """Return the stored commands, oldest first."""
        commands = _decoded(self._cache.get(self._key("commands")))
        return list(filter(is_command, commands)) if isinstance(commands, list) else []

    def set_commands(self, commands: list[dict[str, Any]], lifetime: float) -> None:
        """Replace the stored commands."""
        self._cache.set(self._key("commands"), json.dumps(commands), lifetime)


def _index(text: Any) -> dict[str, float]:
    index = _decoded(text)
    if not isinstance(index, dict):
        return {}
    return {id_: seen for id_, seen in index.items() if isinstance(seen, (int, float))}


def _decoded(text: Any) -> Any:
    """Return what was stored as JSON; None if that was nothing, or something else."""
    try:
        return None if text is None else json.loads(text)
    except DECODE_ERRORS:
        return None
