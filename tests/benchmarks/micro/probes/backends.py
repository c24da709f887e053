"""Probes through Django: the cost of a request's connection, with and without a query."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from pooling.bench.processes import find_class

from .base import WAIT_TIMEOUT, LoopProbe

settings.configure(USE_TZ=True)
django.setup()

from pooling.bench.statements import BenchUser  # noqa: E402 - a model, which needs the settings

if TYPE_CHECKING:
    from pooling.bench.adapters.base import RunConfig


def share_a_core(connection: Any) -> None:
    """Keep this process and its session at the server on one core, where the system can do that.

    On two, an answer may find a core that sleeps. Waking it takes longer than a lease, and whether
    it sleeps by then is chance: a run would measure the scheduler. (A client and a server on one
    machine are the benchmark's own doing; where they are two, the network takes longer than both.)
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    session = connection.connection.info.backend_pid
    core = {min(os.sched_getaffinity(0))}
    for process in (0, session):
        with contextlib.suppress(OSError):  # another user's server, or a container's
            os.sched_setaffinity(process, core)


class Request(LoopProbe):
    """Take a connection as a request does, and end the request.

    Args:
        adapter: the contender, as `module:name`.
        config: where its database is.
        query: run before the end of each request, if there is one.
    """

    def __init__(self, adapter: str, config: RunConfig, query: str = "") -> None:
        super().__init__()
        if query:
            config = replace(config, pool_size=1)  # the one session that is going to share our core
        self.adapter: Any = find_class(adapter)(config)
        # As in a project with one database: Django looks at each of them when a request ends.
        connections.settings.pop(DEFAULT_DB_ALIAS, None)
        self.query = query
        self.connection = self.adapter.acquire()
        if query:
            share_a_core(self.connection)
        self.adapter.release(self.connection)

    def loop(self, number: int) -> None:
        from django.db import close_old_connections

        ensure, query = self.connection.ensure_connection, self.query
        if not query:
            for _ in range(number):
                ensure()
                close_old_connections()
            return
        new_cursor = self.connection.cursor
        for _ in range(number):
            with new_cursor() as cursor:
                cursor.execute(query)
                cursor.fetchone()
            close_old_connections()

    def close(self) -> None:
        self.adapter.close()


class ThreadedRequest(Request):
    """The same by several threads, which stay: persistent connections belong to them.

    Args:
        threads: how many, with a connection for each.
    """

    def __init__(self, adapter: str, config: RunConfig, query: str, threads: int) -> None:
        super().__init__(adapter, replace(config, pool_size=threads))
        self.query, self.threads = query, threads
        self._executors = [ThreadPoolExecutor(1) for _ in range(threads)]
        self._ready = threading.Barrier(threads)
        self._run(1)

    def trial(self, number: int) -> dict[str, float]:
        """Return the seconds that each took, all threads together, and the processor's part."""
        before = process_time()
        share = max(number // self.threads, 1)
        seconds, number = self._run(share), share * self.threads
        return {"seconds": seconds / number, "processor": (process_time() - before) / number}

    def _run(self, share: int) -> float:
        """Let all threads begin together; return the seconds from the first to the last."""
        futures = [each.submit(self._work, share) for each in self._executors]
        times = [future.result(WAIT_TIMEOUT) for future in futures]
        return max(end for _, end in times) - min(begin for begin, _ in times)

    def _work(self, share: int) -> tuple[float, float]:
        from django.db import close_old_connections

        new_cursor = connections[self.connection.alias].cursor
        self._ready.wait(WAIT_TIMEOUT)
        begin = perf_counter()
        for _ in range(share):
            with new_cursor() as cursor:
                cursor.execute(self.query)
                cursor.fetchone()
            close_old_connections()
        return begin, perf_counter()

    def close(self) -> None:
        for each in self._executors:
            each.submit(self.adapter.leave).result(WAIT_TIMEOUT)
            each.shutdown()
        super().close()


class OrmRead(Request):
    """Read one row through the ORM in each request."""

    def loop(self, number: int) -> None:
        from django.db import close_old_connections

        users = BenchUser.objects.using(self.connection.alias)
        for _ in range(number):
            users.get(pk=1)
            close_old_connections()
