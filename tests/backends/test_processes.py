"""How processes begin, and how they end: without a connection, and without a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import checks_connect
from tests.support.projects import HELPERS, Project
from tests.support.servers import execute

if TYPE_CHECKING:
    from tests.conftest import DatabaseSettings
    from tests.support.databases import Database
    from tests.support.postgres import PrivatePostgres


@pytest.mark.parametrize("holders", ["main", "thread", "daemon", "raw", "atomic"])
def test_an_interpreter_that_ends_with_leases_out_ends_quietly(
    project: Project, holders: str
) -> None:
    """trap 19, scenario 35 and Behaviour 6: no hang, no traceback, no ResourceWarning."""
    ends = {
        "main": "session()",
        "thread": "thread = threading.Thread(target=session); thread.start(); thread.join()",
        "daemon": """
def hold():
    session()
    ready.set()
    threading.Event().wait()
ready = threading.Event()
threading.Thread(target=hold, daemon=True).start()
ready.wait(30)
""",
        "raw": "lease = get_pool().acquire(); kept = lease.connection.cursor()",
        "atomic": "block = transaction.atomic(); block.__enter__(); Thing.objects.create(name='x')",
    }
    result = project.script(HELPERS + ends[holders] + "\nprint('end')")
    assert result.stdout == "end\n"
    assert project.script(HELPERS + "print(Thing.objects.count())").stdout == "0\n"


def test_sessions_end_with_the_process(
    private_postgres: PrivatePostgres, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    """scenario 35: politely, the idle ones and the leased one.

    The server's log has nothing to say of it.
    """
    settings = private_postgres.database_settings("pooling.backends.postgresql")
    entry = database_settings(settings.pop("ENGINE"), **settings)
    project = Project(tmp_path / "project", {"default": entry})
    execute(private_postgres.url, "ALTER SYSTEM SET log_min_messages = 'debug1'")
    private_postgres.restart()
    project.script(
        HELPERS
        + """
session()
other = connections["default"].copy()
other.ensure_connection()
other.close()
assert get_pool().stats().size == 2
"""
    )
    private_postgres.stop()
    log = private_postgres.log_tail(10_000)
    assert "DEBUG" in log
    assert "could not receive data from client" not in log
    assert "unexpected EOF on client connection" not in log


def test_nothing_connects_before_the_first_query(database: Database, tmp_path: Path) -> None:
    """trap 20: not at import, not in `ready()`, not in the checks, not in `get_pool`."""
    if checks_connect(database):
        pytest.skip("the checks of Django itself connect")
    database.entry["OPTIONS"].pop("factory", None)
    database.entry["OPTIONS"]["pool"] = {"min_size": 3}
    project = Project(
        tmp_path / "project",
        {"default": database.entry},
        ready="""
        from pooling import get_pool
        assert get_pool().stats().size == 0
        """,
    )
    project.script(
        """
from django.core.management import call_command
from django.db import connection
from pooling import get_pool
call_command("check")
pool = get_pool()
repr(pool), pool.stats(), pool.holders()
assert pool._tasks.maintain() is None
stats = pool.stats()
assert (stats.connects, stats.connect_errors, stats.size) == (0, 0, 0), stats
import threading
assert threading.enumerate() == [threading.main_thread()]
"""
    )
    if database.vendor == "sqlite":
        assert not Path(database.entry["NAME"]).exists()


SIMPLE_TESTS = """
import threading
from django.db import connection, connections
from django.test import SimpleTestCase, TestCase
from things.models import Thing

class Guarded(SimpleTestCase):
    def test_a_query(self):
        Thing.objects.count()

class GuardedRaw(SimpleTestCase):
    def test_a_cursor(self):
        connection.close()
        connection.connect()

class GuardedThread(SimpleTestCase):
    def test_a_query_in_a_thread(self):
        answers = []

        def query():
            try:
                answers.append(Thing.objects.count())
            except Exception as error:
                answers.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=query)
        thread.start()
        thread.join()
        raise answers[0]

class Filler(TestCase):
    def test_that_the_pool_is_filled(self):
        Thing.objects.count()
"""


def test_simple_test_cases_are_still_refused_queries(project: Project) -> None:
    """trap 20, scenario 49: the pool bypasses none of Django's guards, although it is filled."""
    project.write("things/tests.py", SIMPLE_TESTS)
    result = project.manage("test", code=1)
    assert result.stderr.count("Database queries to 'default' are not allowed") >= 1
    assert "Database connections to 'default' are not allowed" in result.stderr
    assert "threaded connections to 'default' are not allowed" in result.stderr
    assert "FAILED (failures=3)" in result.stderr
