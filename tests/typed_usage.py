"""The public interface as a typed caller uses it. Checked by mypy (`make lint`), never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

import pooling
from pooling import activity, signals


class Session:
    """A driver's connection."""

    def query(self) -> str:
        return ""


class SessionDriver:
    """The least a driver has to have."""

    operational_error: type[Exception] = OSError

    def connect(self) -> Session:
        return Session()

    def is_alive(self, connection: Session) -> bool:
        return True

    def ping(self, connection: Session) -> None: ...

    def reset(self, connection: Session) -> None: ...

    def close(self, connection: Session) -> None: ...

    def is_transient(self, error: BaseException) -> bool:
        return False


class Log(pooling.Listener):
    """A listener that hears of everything."""

    def connection_opened(self, pool: pooling.Pool[Any]) -> None: ...

    def connection_closed(
        self, pool: pooling.Pool[Any], reason: pooling.DiscardReason | None
    ) -> None: ...

    def acquire_timed_out(self, pool: pooling.Pool[Any], error: pooling.PoolError) -> None: ...

    def lease_leaked(self, pool: pooling.Pool[Any], holder: pooling.Holder) -> None: ...


def leases() -> None:
    pool = pooling.Pool(SessionDriver(), pooling.PoolConfig(max_size=3), listener=Log())
    with pool.acquire() as session:
        assert_type(session, Session)
    lease = pool.acquire(timeout=0.5, thread_bound=True, note="import")
    assert_type(lease, pooling.Lease[Session])
    assert_type(lease.connection.query(), str)
    lease.release()
    pool.acquire().discard()
    pool.release(pool.acquire(), ping=True)
    pool.discard(pool.acquire(0))


def management(pool: pooling.Pool[Session]) -> None:
    assert_type(pool.name, str)
    assert_type(pool.config.max_idle, float | None)
    assert_type(pool.closed, bool)
    pool.drain()
    pool.resize(min_size=1, max_size=5)
    pool.suspend()
    pool.resume()
    pool.clear_stats()
    pool.close()


def statistics(pool: pooling.Pool[Session]) -> None:
    stats = pool.stats()
    assert_type(stats, pooling.PoolStats)
    assert_type(stats.leased + stats.idle + stats.connecting, int)
    assert_type(stats.waits, pooling.HistogramSnapshot)
    assert_type((stats.waits - stats.waits).quantile(0.95), float | None)
    assert_type(stats.discards, Mapping[pooling.DiscardReason, int])
    for holder in pool.holders():
        assert_type(holder, pooling.Holder)
        assert_type(holder.stack, str | None)
        assert_type(holder.pinned, str | None)
    for caller in pool.queue():
        assert_type(caller, pooling.QueuedCaller)
    assert_type(pool.stats().outage, pooling.Outage | None)


def errors(pool: pooling.Pool[Session]) -> None:
    try:
        pool.acquire()
    except (pooling.PoolTimeout, pooling.TooManyWaiters, pooling.ServerDown) as error:
        assert_type(error.__cause__, BaseException | None)
    except (pooling.PoolClosed, pooling.LeaseError):
        pass
    except pooling.PoolError:
        pass
    try:
        pooling.PoolConfig(max_size=0)
    except pooling.PoolConfigError as error:
        assert_type(error.problems, tuple[tuple[str, str], ...])


def django() -> None:
    pool = pooling.get_pool("replica")
    assert_type(pool, pooling.Pool[Any])
    with activity.doing("nightly import"):
        pool.acquire().release()
    signals.lease_leaked.connect(print)
