"""The interface of an adapter, and the configuration of a run."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pooling.bench.measurements import ConnectionCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pooling.bench.statements import Statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A simulated database: how long it takes, and the share of its connections that is broken."""

    open_seconds: float = 0.1
    query_seconds: float = 0.01
    unhealthy: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Where and how a contender works; the same for all of them.

    Attributes:
        vendor: `postgresql`, `sqlite` or `simulated`.
        entry: the database, as an entry of Django's `DATABASES`.
        pool_size: the most connections a pool may have.
        threads: how many clients ask for connections.
        timeout: how long a pool may let a caller wait, in seconds.
        health_checks: whether each connection is tested with a round trip before it is used.
        seed: for the simulated database.
    """

    vendor: str
    entry: dict[str, Any]
    pool_size: int
    threads: int = 1
    timeout: float = 30.0
    health_checks: bool = False
    simulation: Simulation = field(default_factory=Simulation)
    seed: str = ""


class Count:
    """Counts connections, for databases that do not count them themselves. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.open = self.opened = self.peak = 0

    def total(self) -> ConnectionCounts:
        """Return how many were opened, and how many were open at the same time."""
        return ConnectionCounts(self.opened, self.peak)

    def change(self, by: int) -> None:
        with self._lock:
            self.open += by
            self.opened += by > 0
            self.peak = max(self.peak, self.open)


class PoolAdapter:
    """One way to get a connection, used by several threads. Making it makes a new pool.

    Attributes:
        acquire: takes a connection that is ready for use.
        release: ends the request: returns the connection to the pool, or closes it.
        is_async: `acquire` and `release` are coroutines, and so are `aopen` and `aclose`, which
            take the place of the constructor and of `close`.
    """

    acquire: Callable[[], Any]
    release: Callable[[Any], Any]
    is_async = False
    statements: Statements

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.count: Count | None = None if config.vendor == "postgresql" else Count()

    def leave(self) -> None:
        """Close what the calling thread still has; it does not come again."""

    def close(self) -> None:
        """Close everything. All threads have left."""

    def sqlite_options(self) -> dict[str, Any]:
        """Return what makes SQLite's connections count themselves."""
        if self.count is None:
            return {}
        count: Count = self.count

        class CountedConnection(sqlite3.Connection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._counted = True
                count.change(1)

            def close(self) -> None:
                super().close()
                if self._counted:
                    self._counted = False
                    count.change(-1)

        return {"factory": CountedConnection}
