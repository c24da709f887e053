"""The contract of both backends: what a wrapper leases, and when it gives it back."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.db.utils import ConnectionDoesNotExist

from pooling import DiscardReason, Pool, PoolClosed, PoolTimeout, get_pool
from tests.support.databases import Database, eventually, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.conftest import Thing


def test_a_closed_wrapper_finds_the_same_physical_connection_again(database: Database) -> None:
    wrapper = database.wrapper()
    first = database.session(wrapper)
    raw = wrapper.connection
    wrapper.close()
    assert wrapper.connection is None
    assert database.session(wrapper) == first
    assert wrapper.connection is raw
    assert wrapper.resolve_pool().stats().connects == 1
    assert len(database.sessions()) == 1


def test_another_wrapper_gets_the_connection_that_came_back(database: Database) -> None:
    wrapper, other = database.wrapper(), database.wrapper("another alias")
    session = database.session(wrapper)
    wrapper.close()
    assert database.session(other) == session


def test_wrappers_never_share_a_connection(database: Database) -> None:
    wrappers = [database.wrapper() for _ in range(3)]
    assert len({database.session(wrapper) for wrapper in wrappers}) == 3
    assert len({id(wrapper.connection) for wrapper in wrappers}) == 3
    assert len(database.sessions()) == 3


def test_what_came_back_last_is_used_first(database: Database) -> None:
    one, two = database.wrapper(), database.wrapper()
    first, second = database.session(one), database.session(two)
    one.close()
    two.close()
    assert database.session(one) == second
    assert database.session(two) == first


def test_closing_twice_releases_once(database: Database) -> None:
    one, two = database.wrapper(), database.wrapper()
    database.session(one)
    one.close()
    session = database.session(two)
    one.close()
    assert one.resolve_pool().stats().leased == 1
    assert database.session(two) == session


def test_a_copy_of_a_wrapper_leases_a_connection_of_its_own(database: Database) -> None:
    wrapper = database.wrapper()
    session = database.session(wrapper)
    duplicate = wrapper.copy()
    assert database.session(duplicate) != session
    duplicate.close()
    assert wrapper.resolve_pool().stats().leased == 1


def test_the_statistics_follow_the_leases(database: Database) -> None:
    wrapper = database.wrapper(pool={"max_size": 4, "name": "watched"})
    database.session(wrapper)
    pool = wrapper.resolve_pool()
    stats = pool.stats()
    assert (stats.name, stats.min_size, stats.max_size) == ("watched", 0, 4)
    assert (stats.size, stats.leased, stats.idle, stats.acquired) == (1, 1, 0, 1)
    wrapper.close()
    stats = pool.stats()
    assert (stats.size, stats.leased, stats.idle, stats.connects) == (1, 0, 1, 1)
    assert repr(pool) == "<Pool 'watched' 1/4: 0 leased, 1 idle, 0 waiting>"


def test_get_pool_returns_the_pool_of_an_alias(database: Database) -> None:
    with database.alias("pooled") as wrapper:
        database.session(wrapper)
        pool = get_pool("pooled")
        assert isinstance(pool, Pool)
        assert pool is wrapper.resolve_pool()
        assert pool.stats().leased == 1
        assert in_thread(lambda: get_pool("pooled")) is pool
    with pytest.raises(ConnectionDoesNotExist, match="nowhere"):
        get_pool("nowhere")


def test_get_pool_says_why_an_alias_has_none(database: Database) -> None:
    stock = database.entry["ENGINE"].replace("pooling", "django.db")
    with database.alias("stock", ENGINE=stock), pytest.raises(ImproperlyConfigured, match=stock):
        get_pool("stock")
    with (
        database.alias("unpooled", pool=False),
        pytest.raises(ImproperlyConfigured, match=r"'unpooled'.*OPTIONS\['pool'\] is False"),
    ):
        get_pool("unpooled")


def test_code_outside_the_orm_gets_the_raw_connection(database: Database) -> None:
    with database.alias("pooled"):
        pool = get_pool("pooled")
        with pool.acquire() as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
            assert isinstance(connection, database.raw_class)
            cursor.close()
            assert pool.stats().leased == 1
        assert pool.stats().leased == 0
        with pytest.raises(ZeroDivisionError), pool.acquire():
            raise ZeroDivisionError
        stats = pool.stats()
        assert (stats.leased, stats.connects) == (0, 1)


@pytest.mark.parametrize("options", [{"pool": True}, {}, {"pool": {}}, {"pool": {"max_size": 2}}])
def test_the_pool_option_may_be_true_absent_or_a_mapping(
    database: Database, options: dict[str, object]
) -> None:
    settings = database.settings()
    del settings["OPTIONS"]["pool"]
    settings["OPTIONS"].update(options)
    wrapper = database.wrapper()
    wrapper.settings_dict = settings
    session = database.session(wrapper)
    config = wrapper.resolve_pool().config
    assert (config.min_size, config.timeout) == (1, 30.0)
    assert config.max_size == (2 if options.get("pool") == {"max_size": 2} else 10)
    wrapper.close()
    assert database.session(wrapper) == session


def test_false_turns_pooling_off(database: Database) -> None:
    wrapper = database.wrapper(pool=False)
    database.session(wrapper)
    assert wrapper.resolve_pool() is None
    assert len(database.sessions()) == 1
    wrapper.close()
    eventually(lambda: not database.sessions())


def test_an_exhausted_pool_raises_djangos_operational_error(database: Database) -> None:
    settings = {"pool": {"max_size": 1, "timeout": 0.05, "name": "small"}}
    holder, wrapper = database.wrapper(**settings), database.wrapper(**settings)
    database.warm(holder)
    database.session(holder)
    with pytest.raises(OperationalError, match=r"pool 'small': no connection within") as caught:
        wrapper.cursor()
    assert isinstance(caught.value.__cause__, PoolTimeout)
    assert isinstance(caught.value.__cause__, wrapper.Database.OperationalError)
    assert "max_size=1, leased=1, idle=0" in str(caught.value)
    assert threading.current_thread().name in str(caught.value)
    holder.close()
    database.session(wrapper)
    stats = wrapper.resolve_pool().stats()
    assert (stats.timeouts, stats.leased, stats.connects) == (1, 1, 1)


def test_a_pool_with_too_many_waiters_raises_djangos_operational_error(database: Database) -> None:
    settings = {"pool": {"max_size": 1, "max_waiting": 0}}
    holder, wrapper = database.wrapper(**settings), database.wrapper(**settings)
    database.session(holder)
    with pytest.raises(OperationalError, match="max_waiting"):
        wrapper.ensure_connection()


def test_a_closed_pool_is_replaced_for_wrappers_and_refuses_others(database: Database) -> None:
    wrapper, holder = database.wrapper(), database.wrapper()
    database.session(wrapper)
    database.session(holder)
    pool = wrapper.resolve_pool()
    wrapper.close()
    pool.close()
    with pytest.raises(PoolClosed) as caught:
        pool.acquire()
    assert isinstance(caught.value, wrapper.Database.OperationalError)
    # The lease that was out goes on to work, and ends with its session.
    assert database.session(holder)
    eventually(lambda: len(database.sessions()) == 1)
    holder.close()
    eventually(lambda: not database.sessions())
    assert pool.stats().discards[DiscardReason.CLOSED] == 2
    database.session(wrapper)
    assert wrapper.resolve_pool() is not pool


def test_draining_renews_the_connections_and_goes_on(database: Database) -> None:
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    raw = wrapper.connection
    wrapper.close()
    wrapper.resolve_pool().drain()
    eventually(lambda: not database.sessions())
    wrapper.ensure_connection()
    assert wrapper.connection is not raw
    assert len(database.sessions()) == 1


def test_a_wrapper_without_a_lease_has_no_connection_to_use(database: Database) -> None:
    wrapper = database.wrapper()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    raw = wrapper.connection
    wrapper.close()
    assert wrapper.connection is None
    with pytest.raises(Exception, match=r"closed|Cannot operate on a closed"):
        cursor.execute("SELECT 1")
    with database.wrapper().cursor() as cursor:
        assert cursor.connection is raw


def test_the_orm_works_through_the_pool(
    database: Database, things: Callable[[Database], type[Thing]]
) -> None:
    model = things(database)
    with database.alias("pooled") as wrapper:
        manager = model.objects.using("pooled")
        manager.bulk_create([model(name=f"thing {number}") for number in range(20)])
        wrapper.close()
        manager.filter(name="thing 3").update(name="renamed")
        wrapper.close()
        assert manager.get(name="renamed").pk == manager.order_by("pk")[3].pk
        manager.filter(pk__gt=manager.order_by("pk")[9].pk).delete()
        wrapper.close()
        assert manager.count() == 10
        assert wrapper.resolve_pool().stats().connects == 1


def test_settings_are_never_changed_by_using_them(database: Database) -> None:
    wrapper = database.wrapper(pool={"max_size": 3})
    before = copy.deepcopy(wrapper.settings_dict)
    database.session(wrapper)
    wrapper.close()
    assert wrapper.settings_dict == before


def test_a_raw_connection_closed_by_its_user_is_not_served_again(database: Database) -> None:
    wrapper = database.wrapper(pool={"max_size": 1, "timeout": 10})
    for _ in range(2):
        database.session(wrapper)
        raw = wrapper.connection
        raw.close()
        wrapper.close()
        database.session(wrapper)
        assert wrapper.connection is not raw
    assert wrapper.resolve_pool().stats().discards[DiscardReason.BROKEN] == 2
    eventually(lambda: len(database.sessions()) == 1)


def test_health_checks_and_temporary_connections_work_as_ever(database: Database) -> None:
    """trap 1: `close_if_health_check_failed` is one of the places that look at `self.pool`."""
    wrapper = database.wrapper(CONN_HEALTH_CHECKS=True)
    for _ in range(3):
        with wrapper.temporary_connection() as cursor:
            cursor.execute("SELECT 1")
        assert wrapper.connection is None
        database.session(wrapper)
        wrapper.close_if_health_check_failed()
        wrapper.close_if_unusable_or_obsolete()
        assert wrapper.connection is None
    assert wrapper.resolve_pool().stats().connects == 1
