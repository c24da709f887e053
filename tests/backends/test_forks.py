"""Forks, in an interpreter of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.projects import HELPERS, Project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase, SqliteDatabase


def test_a_forked_child_has_a_pool_of_its_own(project: Project) -> None:
    """trap 19, scenario 32: the parent's connections, leased and idle, are the parent's."""
    project.script(
        HELPERS
        + """
        mine = session()
        other = connections["default"].copy()
        other.ensure_connection()
        idle = other.connection
        other.close()
        pool = get_pool()
        assert pool.stats().size == 2

        def child():
            assert connection.connection is None
            assert not connection.in_atomic_block
            assert pool.stats().size == 0
            Thing.objects.create(name="by the child")
            assert connection.vendor == "sqlite" or session() != mine
            connection.close()
            assert pool.stats().idle == 1
            get_pool().drain()

        for _ in range(2):
            in_child(child)
        # Neither the leased session nor the idle one noticed anything.
        assert session() == mine
        assert Thing.objects.count() == 2
        other.ensure_connection()
        assert other.connection is idle
        with other.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert pool.stats().connects == 2
        other.close()
        """.replace("\n        ", "\n")
    )


def test_a_fork_inside_a_transaction_leaves_the_transaction_to_the_parent(
    project: Project,
) -> None:
    """trap 19, scenario 32: inherited wrappers hold `.connection` and the state of a block."""
    project.script(
        HELPERS
        + """
        with transaction.atomic():
            if connection.vendor != "sqlite":
                Thing.objects.create(name="by the parent")
            session()
            transaction.on_commit(lambda: os.write(1, b"%d\\n" % os.getpid()))

            def child():
                assert connection.connection is None
                assert not connection.in_atomic_block
                assert connection.run_on_commit == []
                with transaction.atomic():
                    Thing.objects.create(name="by the child")

            in_child(child)
            assert connection.in_atomic_block
            Thing.objects.create(name="by the parent")
        names = sorted(Thing.objects.values_list("name", flat=True))
        assert names[0] == "by the child" and names[1:], names
        print(os.getpid())
        """.replace("\n        ", "\n")
    )


def test_a_child_that_uses_an_inherited_cursor_or_lease_gets_an_error(
    postgresql: PostgresDatabase, tmp_path: Path
) -> None:
    """trap 19: whatever it sent would reach the parent's session."""
    project = Project(tmp_path / "project", {"default": postgresql.entry})
    project.migrate()
    project.script(
        HELPERS
        + """
        lease = get_pool().acquire()

        def child():
            from pooling import LeaseError
            for act in (lambda: lease.connection, lease.release, lease.discard):
                try:
                    act()
                except LeaseError:
                    pass
                else:
                    raise AssertionError("the lease is the parent's")

        in_child(child)
        with lease as raw:
            cursor = raw.cursor()
            cursor.execute("SELECT 1")
            cursor.close()
        assert get_pool().stats().leased == 0
        """.replace("\n        ", "\n")
    )


def test_a_fork_while_another_thread_holds_every_lock_does_not_lock_the_child(
    project: Project,
) -> None:
    """trap 19, scenario 32: a lock that another thread holds then stays locked for ever."""
    project.script(
        HELPERS
        + """
from pooling.core.scheduler import SCHEDULER
from pooling.registry import REGISTRY

session()
connection.close()
held, forked = threading.Event(), threading.Event()

def hold():
    with get_pool()._lock, REGISTRY._lock, SCHEDULER._lock:
        held.set()
        forked.wait(30)

def child():
    Thing.objects.create(name="by the child")
    connection.close()
    get_pool().drain()

holder = threading.Thread(target=hold)
holder.start()
held.wait(30)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
try:
    in_child(child)
finally:
    forked.set()
    holder.join()
assert Thing.objects.count() == 1
"""
    )


def test_forks_in_the_midst_of_work(postgresql: PostgresDatabase, tmp_path: Path) -> None:
    """trap 19: wherever the other threads are. (SQLite has locks of its own, with any backend.)"""
    project = Project(tmp_path / "project", {"default": postgresql.entry})
    project.migrate()
    project.script(
        HELPERS
        + """
stop = threading.Event()

def busy():
    while not stop.is_set():
        connections["default"].ensure_connection()
        connections["default"].close()

def child():
    assert Thing.objects.count() == 0

threads = [threading.Thread(target=busy) for _ in range(4)]
for thread in threads:
    thread.start()
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
try:
    for _ in range(20):
        in_child(child)
finally:
    stop.set()
    for thread in threads:
        thread.join()
"""
    )


def test_a_fork_waits_for_our_own_workers(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    """trap 19: SQLite's own locks are copied in a fork as they are.

    A program with one thread may fork when it likes; that the pool works in the background must not
    change that: a child forked while a worker opened a file hung in its own first connect.
    """
    del sqlite.entry["OPTIONS"]["factory"]
    project = Project(tmp_path / "project", {"default": sqlite.entry})
    project.script(
        HELPERS
        + """
import sqlite3

inside, started, go = [], threading.Event(), threading.Event()

class Gated(sqlite3.Connection):
    def __init__(self, *args, **kwargs):
        inside.append(True)
        started.set()
        assert go.wait(30)
        super().__init__(*args, **kwargs)
        inside.clear()

def child():
    assert inside == []
    session()

def use():
    session()
    connection.close()

connections.settings["default"]["OPTIONS"]["factory"] = Gated
user = threading.Thread(target=use)
user.start()
assert started.wait(30)
# A later registration is called earlier: the worker may go on only when a fork has begun.
os.register_at_fork(before=go.set)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
in_child(child)
user.join()
"""
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_pools_work_by_every_start_method(project: Project, method: str) -> None:
    """trap 19, scenario 34: without any configuration, and the parent's session survives."""
    project.write(
        "work.py",
        """
        def work(number):
            import django
            django.setup()
            from things.models import Thing
            Thing.objects.create(name=f"thing {number}")
            import os
            from django.db import connection
            from pooling import get_pool
            session = os.getpid()
            from tests.support.servers import SESSION_ID
            if connection.vendor != "sqlite":
                with connection.cursor() as cursor:
                    cursor.execute(SESSION_ID[connection.vendor])
                    session = cursor.fetchone()[0]
            return os.getpid(), session, get_pool().stats().connects
        """,
    )
    project.script(
        HELPERS
        + f"""
import multiprocessing
from work import work

if __name__ == "__main__":
    mine = session()
    with multiprocessing.get_context({method!r}).Pool(2) as processes:
        # One connection for all the tasks of a worker, and none of them is the parent's.
        workers = set(processes.map(work, range(8)))
        assert len(workers) == len({{session for _, session, _ in workers}} - {{mine}}) <= 2
        assert {{connects for _, _, connects in workers}} == {{1}}
        processes.close()
        processes.join()
    assert session() == mine
    assert Thing.objects.count() == 8
"""
    )
