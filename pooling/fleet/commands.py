"""Commands to all processes: drain, resize, suspend, resume, clear."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

from pooling.core import forks
from pooling.core.config import PoolConfig
from pooling.core.errors import PoolConfigError
from pooling.core.workers import WORKERS
from pooling.fleet.cache_store import CacheStore, sees_one_process, with_timeout
from pooling.fleet.options import fleet_options
from pooling.fleet.snapshots import IDENTITY, identity_of
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

ACTIONS = ("drain", "resize", "suspend", "resume", "clear")

COMMAND_LIFETIME = 60.0
"""Seconds a command stays in the cache. Processes that start meanwhile run it as well."""


def send(
    action: str,
    pool_name: str,
    *,
    process: str | None = None,
    user: str = "",
    **arguments: int | None,
) -> None:
    """Run an action on the pools called `pool_name` in every process.

    This process runs it at once, the others when they next read the cache, each process once.
    `resize` takes `min_size` and `max_size`, the others take no arguments. Blocks until the cache
    has the command; does not wait for the pools.

    Args:
        action: one of `ACTIONS`. `clear` affects what the page shows, not the pools' own counters.
        pool_name: the name, or the `id` of a pool in a snapshot, which means that of one database.
        process: the `id` of the only process in a snapshot that is to run it.
        user: who wants it, for the page.
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
        "user": user,
        "arguments": {name: value for name, value in arguments.items() if value is not None},
    }
    check(action, pool_name, command["arguments"])
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


class CommandLog:
    """The commands that this process has sent and executed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executed: dict[str, float] = {}
        self._sent: list[dict[str, Any]] = []
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
        commands = store.commands()
        stored = {command["id"] for command in commands}
        missing = [command for command in own if command["id"] not in stored]
        if missing:
            live = [each for each in commands if now - each["time"] < COMMAND_LIFETIME]
            commands = sorted(live + missing, key=lambda command: float(command["time"]))
            store.set_commands(commands, COMMAND_LIFETIME)
        return commands

    def execute(self, *commands: dict[str, Any]) -> None:
        """Run those commands that this process has not run yet. Does not block."""
        now = time.time()
        with self._lock:
            new = [command for command in commands if command["id"] not in self._executed]
            self._executed = {
                id_: at for id_, at in self._executed.items() if now - at < 4 * COMMAND_LIFETIME
            }
            self._executed.update((command["id"], now) for command in new)
        for command in new:
            if command.get("process") not in (None, IDENTITY.id):
                continue
            for pool in _pools(command["pool"]):
                _apply(pool, command["action"], command["arguments"])


def _apply(pool: Pool[Any], action: str, arguments: dict[str, int]) -> None:
    logger.info("%r: %s, by command", pool, action)
    if action == "drain":
        WORKERS.run(pool.drain)  # which waits for connections to be closed
    elif action == "resize":
        try:
            pool.resize(**arguments)
        except PoolConfigError as error:
            logger.warning("%r: cannot be resized: %s", pool, error)
    elif action == "suspend":
        pool.suspend()
    elif action == "resume":
        pool.resume()


COMMAND_LOG = CommandLog()
"""The process's log."""
