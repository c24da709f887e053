"""Orders to all processes: drain, resize, suspend, resume, clear."""

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
from pooling.fleet.board import Board, bounded, sees_one_process
from pooling.fleet.options import fleet_options
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pooling.core.pool import Pool

logger = logging.getLogger("pooling")

ACTIONS = ("drain", "resize", "suspend", "resume", "clear")

LIFETIME = 60.0
"""Seconds an order stays up. A process that starts meanwhile obeys it, too."""


def send(action: str, pool_name: str, **arguments: int | None) -> None:
    """Have something done to the pools called `pool_name` in every process.

    This process does it at once, the others when they look at the board the next time, each once.
    `resize` takes `min_size` and `max_size`, the others take no arguments. Waits for the cache, not
    for the pools.

    Raises:
        ValueError: no such action or argument, or limits that make no sense (`PoolConfigError`).
            Nothing has happened then.
        FleetError: the cache failed: the order is carried out in this process only.
    """
    order: dict[str, Any] = {
        "id": secrets.token_hex(8),
        "time": time.time(),
        "action": action,
        "pool": pool_name,
        "arguments": {name: value for name, value in arguments.items() if value is not None},
    }
    check(action, pool_name, order["arguments"])
    DESK.obey(order)
    if not sees_one_process():
        DESK.sent(order)
        bounded(lambda: DESK.put_up(Board(fleet_options())))


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
    return [pool for pool in REGISTRY.pools() if pool.name == name]


class Desk:
    """The orders that this process has sent and obeyed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._obeyed: dict[str, float] = {}
        self._sent: list[dict[str, Any]] = []
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Take a new lock. What the parent has obeyed, the child's pools have obeyed as well."""
        self._lock = threading.Lock()
        self._sent = []

    def sent(self, order: dict[str, Any]) -> None:
        """Note an order that this process has to put up."""
        with self._lock:
            self._sent.append(order)

    def put_up(self, board: Board) -> list[dict[str, Any]]:
        """Return the orders on the board, after putting up those of ours that are not there.

        Two processes that write at the same time may cross out each other's: so this is done again
        at every turn, as long as an order lives.
        """
        now = time.time()
        with self._lock:
            self._sent = [order for order in self._sent if now - order["time"] < LIFETIME]
            own = list(self._sent)
        orders = board.orders()
        there = {order["id"] for order in orders}
        missing = [order for order in own if order["id"] not in there]
        if missing:
            orders = [order for order in orders if now - order["time"] < LIFETIME] + missing
            orders.sort(key=lambda order: float(order["time"]))
            board.put_orders(orders, LIFETIME)
        return orders

    def obey(self, *orders: dict[str, Any]) -> None:
        """Carry out those orders that were not yet. Does not block."""
        now = time.time()
        with self._lock:
            new = [order for order in orders if order["id"] not in self._obeyed]
            self._obeyed = {id_: at for id_, at in self._obeyed.items() if now - at < 4 * LIFETIME}
            self._obeyed.update((order["id"], now) for order in new)
        for order in new:
            for pool in _pools(order["pool"]):
                _carry_out(pool, order["action"], order["arguments"])


def _carry_out(pool: Pool[Any], action: str, arguments: dict[str, int]) -> None:
    logger.info("%r: %s, by order", pool, action)
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
    elif action == "clear":
        pool.clear_stats()


DESK = Desk()
