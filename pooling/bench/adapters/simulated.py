"""A database that is not there: what a pool does can be seen without any."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from pooling import Pool, PoolConfig
from pooling.bench.users import Fields, Row

from .base import Place, Way

if TYPE_CHECKING:
    from pooling.bench.statements import Act
    from pooling.core.connection import Lease

    from .base import Count, Simulation


class SimulatedError(RuntimeError):
    """The simulated database says that something is wrong with a connection."""


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
    """Opens simulated connections, for a pool or for anybody."""

    operational_error: type[Exception] = SimulatedError

    def __init__(self, simulation: Simulation, count: Count, seed: str) -> None:
        self._simulation = simulation
        self._count = count
        self._draw = random.Random(seed)
        self._lock = threading.Lock()

    def connect(self) -> SimulatedConnection:
        time.sleep(self._simulation.open_seconds)
        with self._lock:
            healthy = self._draw.random() >= self._simulation.unhealthy
        self._count.change(1)
        return SimulatedConnection(self._simulation.query_seconds, healthy=healthy)

    def is_alive(self, connection: SimulatedConnection) -> bool:
        return connection.healthy

    def ping(self, connection: SimulatedConnection) -> None:
        connection.query()

    def reset(self, connection: SimulatedConnection) -> None:
        """There is nothing to clean."""

    def close(self, connection: SimulatedConnection) -> None:  # noqa: ARG002
        self._count.change(-1)

    def is_transient(self, error: BaseException) -> bool:  # noqa: ARG002
        return False


class SimulatedStatements:
    """Every act is one query."""

    def make_user(self, fields: Fields, pk: int | None = None) -> Row:
        return Row(**fields, pk=pk)

    def perform(self, _act: Act, connection: Any, _user: object) -> None:
        connection.query()


class Unpooled(Way):
    """A connection for each operation; an unhealthy one is replaced at once."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.statements = SimulatedStatements()
        self._driver = new_driver(self)

    def acquire(self) -> SimulatedConnection:
        while True:
            connection = self._driver.connect()
            if self._driver.is_alive(connection):
                return connection
            self._driver.close(connection)

    def release(self, connection: SimulatedConnection) -> None:
        self._driver.close(connection)


class Pooled(Way):
    """This project's pool."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.statements = SimulatedStatements()
        config = PoolConfig(
            max_size=place.pool_size,
            timeout=place.timeout,
            ping_after=0 if place.health_checks else 30.0,
            name="simulated",
        )
        self._pool = Pool(new_driver(self), config)
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


def new_driver(way: Way) -> SimulatedDriver:
    if way.count is None:
        raise SimulatedError(f"{way.place.vendor} is not simulated")
    return SimulatedDriver(way.place.simulation, way.count, way.place.seed)
