"""Scenario 64: Pools that no settings lead to any more: they give up their sessions, and are
forgotten."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

from pooling import DiscardReason, PoolConfig
from pooling.core.pool import Pool
from pooling.registry import REGISTRY, Registry
from tests.support.databases import Database, PostgresDatabase, eventually
from tests.support.fakes import FakeDriver
from tests.support.servers import execute

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

TENANTS = 15


def test_the_databases_of_tenants_can_be_dropped_when_they_are_not_used(
    postgresql: PostgresDatabase, postgresql_url: str, new_database: Callable[[], str]
) -> None:
    """Each tenant's pool kept `min_size` sessions for ever."""
    names = [new_database() for _ in range(TENANTS)]
    wrapper = postgresql.wrapper(pool={"min_size": 1, "max_idle": 0.2})
    for name in names:
        wrapper.settings_dict["NAME"] = name
        assert postgresql.session(wrapper)
        wrapper.close()
    quoted = ",".join(f"'{name}'" for name in names)
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname IN ({quoted})"
    eventually(lambda: execute(postgresql_url, query) == [(0,)])
    for name in names:
        execute(postgresql_url, f"DROP DATABASE {name}")


def test_a_pool_that_has_given_up_all_it_had_goes_with_its_last_user(database: Database) -> None:
    wrapper = database.wrapper(pool={"min_size": 1, "max_idle": 0.1})
    database.session(wrapper)
    pool = weakref.ref(wrapper.resolve_pool())
    wrapper.close()
    eventually(lambda: not database.sessions())
    assert pool() in REGISTRY.pools(), "a wrapper is bound to it"
    assert database.session(wrapper), "and gets a working pool"
    assert database.wrapper(pool={"min_size": 1, "max_idle": 0.1}).resolve_pool() is pool()
    wrapper.close()
    eventually(lambda: not database.sessions())
    del wrapper
    eventually(lambda: gc.collect() is not None and pool() is None)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_pool(**options: Any) -> Pool[Any]:
    return Pool(FakeDriver(), PoolConfig(**{"max_idle": 10.0, **options}))


def test_pools_with_connections_are_kept_whoever_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    registry = Registry(time)
    pool = registry.get("key", "db", "default", make_pool)
    lease = pool.acquire()
    registry.keep_alive(pool)
    reference = weakref.ref(pool)
    time.now = 1000.0
    registry.get("other", "db", "default", make_pool)
    lease.release()
    del pool, lease
    gc.collect()
    assert reference() is not None
    assert registry.find("key") is reference()
    reference().close()  # type: ignore[union-attr]


def test_a_pool_that_nobody_asked_for_is_let_go_when_another_is_made() -> None:
    """Even one that has never had a connection, since its server refused it."""
    time = Time()
    registry = Registry(time)
    reference = weakref.ref(registry.get("key", "db", "default", make_pool))
    time.now = 9.0
    other = registry.get("other", "db", "default", make_pool)
    gc.collect()
    assert reference() is not None
    time.now = 11.0
    third = registry.get("third", "db", "default", make_pool)
    gc.collect()
    assert reference() is None
    assert registry.pools() == [other, third]


def test_a_pool_that_is_used_at_the_moment_it_is_let_go_is_kept() -> None:
    """1. It closes its last connection; 2. a caller acquires; 3. the listener hears of 1."""
    registry = Registry(Time())
    pool = registry.get("key", "db", "default", make_pool)
    lease = pool.acquire()
    registry.drop_if_unused(pool, DiscardReason.IDLE)
    reference = weakref.ref(pool)
    lease.release()
    del pool, lease
    gc.collect()
    assert reference() is not None
    reference().close()  # type: ignore[union-attr]


def test_a_pool_that_lost_its_server_remembers_the_outage() -> None:
    """Only want of use lets it go: it knows since when the server is away."""
    registry = Registry(Time())
    pool = registry.get("key", "db", "default", make_pool)
    registry.drop_if_unused(pool, DiscardReason.BROKEN)
    reference = weakref.ref(pool)
    del pool
    gc.collect()
    assert reference() is not None


def test_a_nested_look_up_finds_the_same_pool() -> None:
    """A signal handler may ask for the pool while it is being made."""
    registry = Registry(Time())
    found = []

    def make() -> Pool[Any]:
        if not found:
            found.append(None)
            found.append(registry.get("key", "db", "default", make))
        return make_pool()

    assert registry.get("key", "db", "default", make) is found[1]
    assert len(registry.pools()) == 1
