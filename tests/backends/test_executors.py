"""Threads that nobody tells to give back: those that end, and those that live on."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections

from pooling import get_pool
from tests.support.databases import MARIADB_SLOW, PATIENCE, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import Database


def query() -> None:
    with connections["pooled"].cursor() as cursor:
        cursor.execute("SELECT 1")


def query_and_close() -> None:
    query()
    close_old_connections()


@MARIADB_SLOW
def test_1000_threads_that_never_close_their_connection(database: Database) -> None:
    """scenario 9: one after the other, on 4 connections; none fails, none waits out a timeout."""
    with database.alias("pooled", pool={"max_size": 4, "timeout": PATIENCE / 2}):
        failures = []

        def work() -> None:
            try:
                query()
            except Exception as error:
                failures.append(error)

        for _ in range(1000):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive()
            assert failures == []
        stats = get_pool("pooled").stats()
        assert (stats.acquired, stats.timeouts) == (1000, 0)
        assert stats.connects <= 4
        assert stats.recovered >= 996


def in_asyncio(count: int, function: Callable[[], None]) -> None:
    """Call `function` in so many threads of an event loop's executor, at the same time."""
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait(PATIENCE)
        function()

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count))
        run_async = sync_to_async(run, thread_sensitive=False)
        await asyncio.gather(*[run_async() for _ in range(count)])

    asyncio.run(main())


@pytest.mark.parametrize("run", [in_threads, in_asyncio], ids=["executor", "sync_to_async"])
def test_executor_threads_that_close_share_the_connections(database: Database, run: Any) -> None:
    """scenario 34: what ends with `close_old_connections()` needs no more than anybody else."""
    with database.alias("pooled", pool={"max_size": 2, "timeout": PATIENCE}):
        run(10, query_and_close)
        stats = get_pool("pooled").stats()
        assert (stats.acquired, stats.leased, stats.recovered) == (10, 0, 0)
        assert stats.connects <= 2
