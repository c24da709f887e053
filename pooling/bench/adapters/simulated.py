"""Adapters to a simulated database: they show what a pool does without any server."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from pooling import Pool, PoolConfig
from pooling.bench.statements import RowStatements

from .base import PoolAdapter, RunConfig

if TYPE_CHECKING:
    from pooling import Lease
    from pooling.bench.statements import Action

    from .base import Count, Simulation


class SimulatedError(RuntimeError):
    """A simulated connection is broken."""


class SimulatedConnection:
    """Answers every query after a while, unless it is unhealthy."""

    def __init__(self, seconds: float, *, healthy: bool) -> None:
        self.healthy = healthy
        self._seconds = seconds

    def query(self) -> None:
        time.sleep(self._seconds)
        if not self.healthy:
            raise SimulatedError("the connection is broken")


class SimulatedDriver:
    """Opens simulated connections, with a pool or without."""

    operational_error: type[Exception] = SimulatedError

    def __init__(self, simulation: Simulation, count: Count, seed: str) -> None:
        self._simulation = simulation
        self._count = count
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def connect(self) -> SimulatedConnection:
        time.sleep(self._simulation.open_seconds)
        with self._lock:
            healthy = self._random.random() >= self._simulation.unhealthy
        self._count.change(1)
        return SimulatedConnection(self._simulation.query_seconds, healthy=healthy)

    def is_alive(self, connection: SimulatedConnection) -> bool:
        return connection.healthy

    def ping(self, connection: SimulatedConnection) -> None:
        connection.query()

    def reset(self, connection: SimulatedConnection) -> None:
        """There is nothing to reset."""

    def close(self, connection: SimulatedConnection) -> None:  # noqa: ARG002
        self._count.change(-1)

    def is_transient(self, error: BaseException) -> bool:  # noqa: ARG002
        return False


class SimulatedStatements(RowStatements):
    """Every action is one query."""

    def perform(self, _action: Action, connection: Any, _user: object) -> None:
        connection.query()


class Unpooled(PoolAdapter):
    """A connection for each operation; an unhealthy one is replaced at once."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.statements = SimulatedStatements()
        if self.count is None:
            raise SimulatedError(f"{config.vendor} is not simulated")
        self._driver = SimulatedDriver(config.simulation, self.count, config.seed)

    def acquire(self) -> SimulatedConnection:
        while True:
            connection = self._driver.connect()
            if self._driver.is_alive(connection):
                return connection
            self._driver.close(connection)

    def release(self, connection: SimulatedConnection) -> None:
        self._driver.close(connection)


class Pooled(Unpooled):
    """This project's pool."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        options = PoolConfig(
            max_size=config.pool_size,
            timeout=config.timeout,
            ping_after=0 if config.health_checks else 30.0,
            name="simulated",
        )
        self._pool = Pool(self._driver, options)
        self._leases: dict[SimulatedConnection, Lease[SimulatedConnection]] = {}

    def acquire(self) -> SimulatedConnection:
        # A connection that has only just been opened is handed out without a test.
        while True:
            lease = self._pool.acquire()
            connection = lease.connection
            if connection.healthy:
                self._leases[connection] = lease
                return connection
            self._pool.discard(lease)

    def release(self, connection: SimulatedConnection) -> None:
        self._pool.release(self._leases.pop(connection))

    def close(self) -> None:
        self._pool.close()
