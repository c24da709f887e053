"""Three pools of stub connections, all used in the same adapter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .stubs import PsycopgStub, StubDriver

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 30.0


class StubPool(ABC):
    """A pool, made with the most connections it may have and the seconds it takes to open one."""

    acquire: Callable[[], Any]
    release: Callable[[Any], object]
    pool: Any

    @property
    @abstractmethod
    def connects(self) -> int:
        """How many connections were begun to be opened."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    def fill(self, number: int) -> None:
        """Have so many connections opened."""
        held = [self.acquire() for _ in range(number)]
        while held:
            self.release(held.pop())


class OurPool(StubPool):
    """This project's, with the liveness test and all statistics."""

    def __init__(self, size: int, connect_seconds: float = 0.0) -> None:
        import pooling

        self.driver = StubDriver(connect_seconds)
        config = pooling.PoolConfig(max_size=size, min_size=0, timeout=TIMEOUT)
        self.pool = pooling.Pool(self.driver, config)
        self.acquire, self.release = self.pool.acquire, self.pool.release

    @property
    def connects(self) -> int:
        return self.driver.connects

    def close(self) -> None:
        self.pool.close()


class PsycopgPool(StubPool):
    """psycopg_pool's, without any test of its connections."""

    def __init__(self, size: int, connect_seconds: float = 0.0) -> None:
        from psycopg_pool import ConnectionPool

        class Connection(PsycopgStub):
            pass

        Connection.connect_seconds = connect_seconds
        self._connection_class = Connection
        self.pool = ConnectionPool(
            connection_class=Connection,  # type: ignore[type-var, unused-ignore]
            min_size=0,
            max_size=size,
            timeout=TIMEOUT,
            open=True,
        )
        self.acquire, self.release = self.pool.getconn, self.pool.putconn

    @property
    def connects(self) -> int:
        return self._connection_class.connects

    def close(self) -> None:
        self.pool.close()


class SqlAlchemyPool(StubPool):
    """SQLAlchemy's QueuePool, without any test of its connections."""

    def __init__(self, size: int, connect_seconds: float = 0.0) -> None:
        from sqlalchemy.pool import QueuePool

        self.driver = StubDriver(connect_seconds)
        self.pool = QueuePool(
            self.driver.connect,  # type: ignore[arg-type, unused-ignore]
            pool_size=size,
            max_overflow=0,
            timeout=TIMEOUT,
        )
        self.acquire = self.pool.connect
        self.release = lambda connection: connection.close()

    @property
    def connects(self) -> int:
        return self.driver.connects

    def close(self) -> None:
        self.pool.dispose()


POOLS: dict[str, Callable[..., StubPool]] = {
    "pooling": OurPool,
    "psycopg_pool": PsycopgPool,
    "SQLAlchemy QueuePool": SqlAlchemyPool,
}
