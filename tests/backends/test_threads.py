"""Scenario 56: The contract of both backends: many threads, and threads that end badly."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, OperationalError, connections

from pooling import get_pool
from tests.support.databases import PATIENCE, Database, eventually, in_thread, in_threads

ONE = {"pool": {"max_size": 1, "timeout": 10}}


def test_sixteen_threads_never_have_more_sessions_than_max_size(database: Database) -> None:
    """The server is asked while the threads work, and it is asked for the most it ever saw."""
    max_size, seen, done = 4, [0], threading.Event()
    settings: dict[str, Any] = {"pool": {"max_size": max_size, "timeout": PATIENCE}}
    if database.vendor == "postgresql":
        settings["OPTIONS"] = {"application_name": "sixteen threads"}

    def count() -> int:
        if database.vendor != "postgresql":
            return len(database.sessions())
        rows = database.execute(
            "SELECT 1 FROM pg_stat_activity "
            "WHERE application_name = 'sixteen threads' AND datname = current_database()"
        )
        return len(rows)

    def watch() -> None:
        while not done.is_set():
            seen[0] = max(seen[0], count())

    def work() -> set[Any]:
        wrapper = database.wrapper(**settings)
        sessions = set()
        for _ in range(25):
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT 1")
            sessions.add(database.session(wrapper))
            wrapper.close()
        return sessions

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        used = set().union(*in_threads(16, work))
    finally:
        done.set()
        watcher.join(PATIENCE)
    assert 1 <= seen[0] <= max_size
    assert 1 <= len(used) <= max_size
    stats = database.wrapper(**settings).resolve_pool().stats()
    assert len(used) <= stats.connects <= max_size  # one may have come when it was needed no more
    assert (stats.leased, stats.waiting, stats.acquired) == (0, 0, 16 * 25)


def test_threads_use_one_alias_at_once_and_share_a_pool(database: Database) -> None:
    with database.alias("pooled"):

        def work() -> Any:
            wrapper = connections["pooled"]
            session = database.session(wrapper)
            barrier.wait(PATIENCE)
            wrapper.close()
            return session

        barrier = threading.Barrier(3)
        assert len(set(in_threads(3, work))) == 3
        stats = get_pool("pooled").stats()
        assert (stats.connects, stats.leased, stats.idle) == (3, 0, 3)


def test_the_wrapper_still_refuses_other_threads(database: Database) -> None:
    """trap 17: `validate_thread_sharing` guards the wrapper as ever."""
    wrapper = database.wrapper()
    database.session(wrapper)
    with pytest.raises(DatabaseError, match="thread"):
        in_thread(wrapper.close)
    assert wrapper.resolve_pool().stats().leased == 1
    wrapper.inc_thread_sharing()
    in_thread(wrapper.close)
    wrapper.dec_thread_sharing()
    assert wrapper.resolve_pool().stats().leased == 0


def test_a_thread_that_ends_without_closing_gives_its_connection_back(database: Database) -> None:
    """trap 18, scenario 9: when exhausted, the pool looks for the leases of dead threads."""
    kept: list[Any] = []  # so that no garbage collection can help

    def forgetful() -> Any:
        kept.append(database.wrapper(**ONE))
        return database.session(kept[0])

    session = in_thread(forgetful)
    wrapper = database.wrapper(**ONE)
    # Housekeeping may have been first on a busy machine.
    assert database.session(wrapper) == session
    stats = wrapper.resolve_pool().stats()
    assert (stats.recovered, stats.leased, stats.connects) == (1, 1, 1)
    # The dead thread's wrapper cannot reach what is another's now.
    kept[0].inc_thread_sharing()
    kept[0].close()
    assert wrapper.resolve_pool().stats().leased == 1
    assert database.session(wrapper) == session


def test_a_wrapper_that_is_shared_after_its_lease_began_outlives_its_thread(
    database: Database,
) -> None:
    """trap 17: its connection is not recovered under those that go on with it."""
    database.execute("CREATE TABLE note (text varchar(10))")
    wrappers: list[Any] = []

    def begin() -> Any:
        wrappers.append(database.wrapper(**ONE))
        wrappers[0].set_autocommit(False)
        with wrappers[0].cursor() as cursor:
            cursor.execute("INSERT INTO note VALUES ('kept')")
        wrappers[0].inc_thread_sharing()
        return wrappers[0].connection

    raw = in_thread(begin)
    wrapper = wrappers[0]
    pool = wrapper.resolve_pool()
    pool._tasks.maintain()
    assert pool.stats().recovered == 0
    assert wrapper.connection is raw
    wrapper.commit()
    wrapper.close()
    assert database.execute("SELECT text FROM note") == [("kept",)]


def test_a_lease_follows_thread_sharing_both_ways(database: Database) -> None:
    """trap 17: bound again when only the thread that has the wrapper may use it."""
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    record = wrapper._lease._record
    assert record.thread_bound
    wrapper.inc_thread_sharing()
    wrapper.inc_thread_sharing()
    assert not record.thread_bound
    wrapper.dec_thread_sharing()
    assert not record.thread_bound
    wrapper.dec_thread_sharing()
    assert record.thread_bound
    wrapper.close()


def test_a_lease_of_another_thread_is_not_bound_to_it_when_sharing_ends(
    database: Database,
) -> None:
    """trap 17: the wrapper's own thread goes on with it, and the other one may end."""
    wrapper = database.wrapper(**ONE)
    wrapper.inc_thread_sharing()
    in_thread(wrapper.ensure_connection)
    wrapper.dec_thread_sharing()
    pool = wrapper.resolve_pool()
    pool._tasks.maintain()
    assert pool.stats().recovered == 0
    assert database.session(wrapper)
    wrapper.close()


def test_an_open_transaction_of_a_dead_thread_is_rolled_back(database: Database) -> None:
    """trap 18: nothing of it reaches the thread that gets the connection next."""
    database.execute("CREATE TABLE note (text varchar(10))")
    kept: list[Any] = []

    def forgetful() -> None:
        kept.append(database.wrapper(**ONE))
        kept[0].set_autocommit(False)
        with kept[0].cursor() as cursor:
            cursor.execute("INSERT INTO note VALUES ('lost')")

    in_thread(forgetful)
    wrapper = database.wrapper(**ONE)
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO note VALUES ('kept')")
    assert database.execute("SELECT text FROM note") == [("kept",)]
    assert wrapper.resolve_pool().stats().recovered == 1


def test_a_dead_thread_is_known_by_its_object_not_by_its_ident(database: Database) -> None:
    """trap 17: thread idents are used again as soon as a thread has ended."""
    kept: list[Any] = []

    def forget() -> None:
        kept.append(database.wrapper(**ONE))
        database.session(kept[0])

    dead = threading.Thread(target=forget)
    dead.start()
    dead.join(PATIENCE)
    gate = threading.Event()
    namesake = threading.Thread(target=gate.wait, args=(PATIENCE,))
    namesake.start()
    try:
        dead._ident = namesake.ident  # as the system does when it likes to, which is often
        assert database.session(database.wrapper(**ONE))
    finally:
        gate.set()
        namesake.join(PATIENCE)


def test_a_forgotten_lease_is_collected_even_while_the_pool_is_locked(database: Database) -> None:
    """trap 18: a finaliser may run in a thread that holds the pool's lock, so it takes none."""
    wrapper = database.wrapper(**ONE)
    pool = wrapper.resolve_pool()

    def forget() -> None:
        lease = pool.acquire()
        cycle = [lease]
        cycle.append(cycle)  # type: ignore[arg-type]
        with pool._lock:
            del lease, cycle
            gc.collect()

    thread = threading.Thread(target=forget, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    blocked = thread.is_alive()
    if blocked:
        pool._lock = threading.Lock()  # so that only this test suffers
    assert not blocked
    database.session(wrapper)
    stats = pool.stats()
    assert (stats.recovered, stats.leased, stats.connects) == (1, 1, 1)


@pytest.mark.parametrize("lost", ["thread", "wrapper"])
@pytest.mark.parametrize("end", ["close", "drain"])
def test_what_was_lost_before_a_pool_ends_is_closed_with_it(
    database: Database, lost: str, end: str
) -> None:
    """trap 18: `DROP DATABASE` after a test waits for the session of a thread that has gone."""
    kept: list[Any] = []

    def forgetful() -> Any:
        wrapper = database.wrapper(**ONE)
        database.session(wrapper)
        if lost == "thread":
            kept.append(wrapper)
        return wrapper.resolve_pool()

    pool = in_thread(forgetful)
    gc.collect()
    assert len(database.sessions()) == 1
    getattr(pool, end)()
    eventually(lambda: not database.sessions())
    stats = pool.stats()
    assert (stats.size, stats.recovered) == (0, 1)


def test_what_is_lost_after_a_pool_was_closed_is_closed_too(database: Database) -> None:
    """trap 24: the lease was out when the pool ended, and its owner never gives it back."""
    wrapper = database.wrapper(**ONE)
    database.session(wrapper)
    pool = wrapper.resolve_pool()
    pool.close()
    del wrapper
    gc.collect()
    eventually(lambda: not database.sessions())


def test_one_thread_with_two_aliases_of_a_pool_of_one_is_told_so(database: Database) -> None:
    """trap 21: it would wait for its own release; the error says so instead of just timing out."""
    settings = {"pool": {"max_size": 1, "timeout": 0.05}}
    with database.alias("one", **settings) as one, database.alias("two", **settings) as two:
        assert get_pool("one") is get_pool("two")
        database.warm(one)
        database.session(one)
        with pytest.raises(OperationalError, match="this thread holds 1 of them itself"):
            two.ensure_connection()
        duplicate = one.copy()
        with pytest.raises(OperationalError, match=r"connection\.copy\(\)"):
            duplicate.ensure_connection()


def test_another_threads_connection_is_not_called_ones_own(database: Database) -> None:
    """trap 21: the remedy differs, so the text does."""
    settings = {"pool": {"max_size": 1, "timeout": 0.05}}
    holder = database.wrapper(**settings)
    database.warm(holder)
    database.session(holder)

    def other() -> str:
        with pytest.raises(OperationalError) as caught:
            database.wrapper(**settings).ensure_connection()
        return str(caught.value)

    assert "itself" not in in_thread(other)


def test_executor_threads_without_end_of_request_are_named_and_recovered(
    database: Database,
) -> None:
    """trap 22, scenario 34: threads of an executor never send `request_finished`."""
    settings = {"pool": {"max_size": 1, "timeout": 0.05, "ping_after": None}}
    with database.alias("pooled", **settings) as wrapper:
        database.warm(wrapper)
        executor = ThreadPoolExecutor(1, thread_name_prefix="executor of the view")

        def query() -> Any:
            return database.session(connections["pooled"])

        def view() -> Any:
            return asyncio.run(sync_to_async(query, thread_sensitive=False, executor=executor)())

        try:
            session = in_thread(view)
            with pytest.raises(OperationalError, match="thread 'executor of the view_0'"):
                database.session(connections["pooled"])
        finally:
            executor.shutdown()
        gc.collect()

        def recovered() -> bool:
            try:
                return database.session(connections["pooled"]) == session
            except OperationalError:
                return False

        assert eventually(recovered)
        assert get_pool("pooled").stats().connects == 1


def test_async_code_in_the_main_thread_shares_its_connection(database: Database) -> None:
    """trap 22: thread-sensitive code runs in one thread and so holds one connection."""
    with database.alias("pooled", **ONE):

        def query() -> Any:
            return database.session(connections["pooled"])

        def close() -> None:
            connections["pooled"].close()
            # The thread lives on, and the next test's alias must not find this one's wrapper.
            del connections["pooled"]

        async def view() -> list[Any]:
            sessions = [await sync_to_async(query)() for _ in range(3)]
            await sync_to_async(close)()
            return sessions

        assert len(set(asyncio.run(view()))) == 1
        assert get_pool("pooled").stats().leased == 0
