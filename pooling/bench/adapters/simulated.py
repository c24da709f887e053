"""Contenders on a simulated database: they show what a pool does without any server."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from pooling import Pool, PoolConfig

from .base import SIMULATED, Count, PoolAdapter, RunConfig

if TYPE_CHECKING:
    from pooling import Lease


class SimulatedError(RuntimeError):
    """A simulated connection is broken."""


class SimulatedConnection:
    """Answers every query after a while, until a test finds it broken."""

    def __init__(self, seconds: float) -> None:
        self.healthy = True
        self._seconds = seconds

    def query(self) -> None:
        time.sleep(self._seconds)


class SimulatedDriver:
    """Opens simulated connections; some of those that are tested turn out to be broken."""

    operational_error: type[Exception] = SimulatedError

    def __init__(self, config: RunConfig, count: Count) -> None:
        self._config = config
        self._count = count
        self._random = random.Random(config.seed)
        self._lock = threading.Lock()

    def connect(self) -> SimulatedConnection:
        time.sleep(self._config.simulated_open)
        self._count.change(1)
        return SimulatedConnection(self._config.simulated_query)

    def is_alive(self, connection: SimulatedConnection) -> bool:
        with self._lock:
            if self._random.random() < self._config.simulated_unhealthy:
                connection.healthy = False
        return connection.healthy

    def ping(self, connection: SimulatedConnection) -> None:
        connection.query()
        if not self.is_alive(connection):
            raise SimulatedError("the connection is broken")

    def reset(self, connection: SimulatedConnection) -> None:
        """There is nothing to reset."""

    def close(self, connection: SimulatedConnection) -> None:  # noqa: ARG002
        self._count.change(-1)

    def is_transient(self, error: BaseException) -> bool:  # noqa: ARG002
        return False


class Unpooled(PoolAdapter):
    name = "simulated-unpooled"
    title = "No pool"
    level = "simulated"
    driver = "simulated"
    vendors = usual = (SIMULATED,)
    settings = ("none", "-", "-", "closed", "one for each operation")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.count = Count()
        self._driver = SimulatedDriver(config, self.count)

    def acquire(self) -> SimulatedConnection:
        return self._driver.connect()

    def perform(self, _action: object, connection: Any, _user: object) -> None:
        connection.query()

    def release(self, connection: SimulatedConnection) -> None:
        self._driver.close(connection)


class Pooled(Unpooled):
    name = "simulated-pooled"
    title = "pooling.Pool"
    has_pool = True
    settings = ("before each use", "-", "-", "none", "at most max_size")

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
        lease = self._pool.acquire()
        self._leases[lease.connection] = lease
        return lease.connection

    def release(self, connection: SimulatedConnection) -> None:
        self._pool.release(self._leases.pop(connection))

    def close(self) -> None:
        self._pool.close()
