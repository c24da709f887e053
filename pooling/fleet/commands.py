"""Commands to all processes, to one of them, or to one that holds a connection."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pooling.backends.driver import driver_of
from pooling.core import forks
from pooling.core.config import PoolConfig
from pooling.core.errors import PoolConfigError
from pooling.core.worker_threads import WORKERS
from pooling.fleet.cache_store import (
    COMMAND_LIFETIME,
    CacheStore,
    sees_one_process,
    with_timeout,
)
from pooling.fleet.options import fleet_options
from pooling.fleet.snapshots import IDENTITY, identity_of, redacted
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

LEASE_ACTIONS = ("cancel", "terminate")
"""What is done to one lease: cancel its query, or end its session."""

ACTIONS = ("drain", "resize", "suspend", "resume", "clear", *LEASE_ACTIONS)

RESIZE_LIFETIME = 86400.0
"""Seconds for which processes that start take over a resize, if their settings are still those that
were in force then. Other commands: `COMMAND_LIFETIME`."""


def send(
    action: str,
    pool_name: str,
    *,
    process: str | None = None,
    lease: str | None = None,
    user: str = "",
    configured: Mapping[str, int] | None = None,
    **arguments: int | None,
) -> None:
    """Run an action on the pools called `pool_name` in every process.

    This process runs it at once, the others when they next read the cache, each process once.
    `resize` takes `min_size` and `max_size`, the others take no arguments; processes that start
    within a day are resized as well. Blocks until the cache has the command; does not wait for the
    pools.

    Args:
        action: one of `ACTIONS`. `clear` affects what the page shows, not the pools' own counters.
        pool_name: the name, or the `id` of a pool in a snapshot, which means that of one database.
        process: the `id` of the only process in a snapshot that is to run it.
        lease: the `id` of a holder in that process, for `cancel` and `terminate`.
        user: who wants it, for the page.
        configured: the sizes in the settings of the pools to resize, if this process has no such
            pool. Processes with other settings are not resized later.
        arguments: see above.

    Raises:
        ValueError: unknown action or argument, or invalid limits (`PoolConfigError`). Nothing was
            run in this case.
        FleetError: the cache failed: the command runs in this process only.
    """
    command: dict[str, Any] = {
        "id": secrets.token_hex(8),
        "time": time.time(),
        "action": action,
        "pool": pool_name,
        "process": process,
        "lease": lease,
        "configured": configured or _configured(pool_name) if action == "resize" else None,
        "user": user,
        "arguments": {name: value for name, value in arguments.items() if value is not None},
    }
    check(action, pool_name, command["arguments"])
    if (action in LEASE_ACTIONS) != (lease is not None and process is not None):
        raise ValueError(f"{' and '.join(LEASE_ACTIONS)} are for the lease of a process")
    COMMAND_LOG.execute(command)
    COMMAND_LOG.add_sent(command)
    if not sees_one_process():
        with_timeout(lambda: COMMAND_LOG.publish(CacheStore(fleet_options())))


def check(action: str, pool_name: str, arguments: Mapping[str, Any]) -> None:
    """Raise the ValueError that `send` would raise."""
    if action not in ACTIONS:
        raise ValueError(f"unknown action {action!r}; the actions are {', '.join(ACTIONS)}")
    allowed = {"min_size", "max_size"} if action == "resize" else set()
    if unknown := sorted(arguments.keys() - allowed):
        raise ValueError(f"{action} takes no {' or '.join(unknown)}")
    if action != "resize":
        return
    if not arguments:
        raise ValueError("resize needs min_size or max_size")
    pools = _pools(pool_name)
    if not pools:
        PoolConfig(**{"min_size": 0, "max_size": 10**6, **arguments})
    for pool in pools:
        dataclasses.replace(pool.config, **arguments)


def _pools(name: str) -> list[Pool[Any]]:
    return [pool for pool in REGISTRY.pools() if name in (pool.name, identity_of(pool)["id"])]


def _configured(name: str) -> dict[str, int] | None:
    """Return the sizes in the settings of a pool of this process."""
    for pool in _pools(name):
        if (driver := driver_of(pool)) is not None:
            return {"min_size": driver.config.min_size, "max_size": driver.config.max_size}
    return None


def _lives(command: dict[str, Any], now: float) -> bool:
    return now - float(command["time"]) < _lifetime(command)


def _lifetime(command: dict[str, Any]) -> float:
    inherited = command["action"] == "resize" and command["configured"] and not command["process"]
    return RESIZE_LIFETIME if inherited else COMMAND_LIFETIME


class CommandLog:
    """The commands that this process has sent and executed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executed: dict[str, float] = {}
        self._sent: list[dict[str, Any]] = []
        self._resized: WeakKeyDictionary[Pool[Any], str] = WeakKeyDictionary()
        """The last resize that each pool has followed."""
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Take a new lock. Commands that the parent executed hold for the child's pools as well."""
        self._lock = threading.Lock()
        self._sent = []

    def add_sent(self, command: dict[str, Any]) -> None:
        """Add a command that this process has to publish."""
        with self._lock:
            self._sent.append(command)

    def sent(self) -> list[dict[str, Any]]:
        """Return the commands of the last minute that this process has sent."""
        now = time.time()
        with self._lock:
            self._sent = [each for each in self._sent if now - each["time"] < COMMAND_LIFETIME]
            return list(self._sent)

    def executed(self) -> list[str]:
        """Return the ids of the commands that this process has run in the last minutes."""
        with self._lock:
            return list(self._executed)

    def publish(self, store: CacheStore) -> list[dict[str, Any]]:
        """Return the commands in the cache, after adding those of this process that are missing.

        Two processes that write at the same time may overwrite each other's commands: so this is
        repeated in every publishing cycle until a command expires.
        """
        now = time.time()
        own = self.sent()
        commands = [each for each in store.commands() if _lives(each, now)]
        stored = {command["id"] for command in commands}
        missing = [command for command in own if command["id"] not in stored]
        if missing:
            commands = sorted(commands + missing, key=lambda command: float(command["time"]))
            commands = _without_superseded(commands)
            store.set_commands(commands, max(map(_lifetime, commands)))
        return commands

    def execute(self, *commands: dict[str, Any]) -> None:
        """Run those commands that this process has not run yet. Does not block.

        A resize is followed by each pool once: also by those that are opened later.
        """
        now = time.time()
        mine = [each for each in commands if each["process"] in (None, IDENTITY.id)]
        sizes = {
            pool: command
            for command in sorted(mine, key=lambda command: float(command["time"]))
            if command["action"] == "resize"
            for pool in _pools(command["pool"])
        }
        with self._lock:
            new = [command for command in mine if command["id"] not in self._executed]
            self._executed = {
                id_: at for id_, at in self._executed.items() if now - at < 4 * COMMAND_LIFETIME
            }
            self._executed.update((command["id"], now) for command in commands)
            resized = [
                (pool, command)
                for pool, command in sizes.items()
                if self._resized.get(pool) != command["id"]
            ]
            self._resized.update((pool, command["id"]) for pool, command in resized)
        for pool, command in resized:
            is_new = now - command["time"] < COMMAND_LIFETIME
            if is_new or command["configured"] == _configured(command["pool"]):
                _apply(pool, command)
        for command in new:
            if command["action"] != "resize":
                for pool in _pools(command["pool"]):
                    _apply(pool, command)


def _without_superseded(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out each resize of a pool after which there was another one."""
    last = {each["pool"]: each for each in commands if each["action"] == "resize"}
    return [each for each in commands if each["action"] != "resize" or last[each["pool"]] is each]


def _apply(pool: Pool[Any], command: dict[str, Any]) -> None:
    action = command["action"]
    logger.info("%r: %s, by command", pool, action)
    if action == "drain":
        WORKERS.run(pool.drain)  # which waits for connections to be closed
    elif action == "resize":
        try:
            pool.resize(**command["arguments"])
        except PoolConfigError as error:
            logger.warning("%r: cannot be resized: %s", pool, error)
    elif action == "suspend":
        pool.suspend()
    elif action == "resume":
        pool.resume()
    elif action in LEASE_ACTIONS:
        WORKERS.run(lambda: _disrupt(pool, action, command["lease"]))


def _disrupt(pool: Pool[Any], action: str, lease: str) -> None:
    """Cancel the query of a lease, or end its session. Blocks for a connection to the server."""
    driver = driver_of(pool)
    if driver is None or action not in driver.disruptions:
        return
    try:
        if not pool._disrupt(lease, getattr(driver, action)):  # noqa: SLF001
            logger.info("%r: %s: the lease had ended", pool, action)
    except Exception as error:  # a driver's, of a connection that was closed meanwhile for instance
        logger.warning("%r: %s failed: %s", pool, action, redacted(pool, str(error)))


COMMAND_LOG = CommandLog()
"""The process's log."""
