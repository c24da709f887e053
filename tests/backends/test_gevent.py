"""Gunicorn's gevent workers, the real ones.

psycopg 3 cooperates with gevent by itself, psycopg2 with the help of psycogreen.
"""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import eventually
from tests.support.projects import SECONDS, Project
from tests.support.serving import URLS, Gate, gunicorn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase

APPLICATION = """
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""
PSYCOGREEN = """
def post_fork(server, worker):
    from psycogreen.gevent import patch_psycopg
    patch_psycopg()
"""
PATCH_FIRST = """
from gevent import monkey

monkey.patch_all()
"""
GREENLETS = """
import faulthandler
faulthandler.dump_traceback_later(60, exit=True)  # the test says what stood still, should it hang

from gevent import monkey
monkey.patch_all()
import gevent, os

if os.environ.get("TEST_DRIVER") == "psycopg2":
    from psycogreen.gevent import patch_psycopg
    patch_psycopg()
import django
django.setup()
from django.db import connection
from pooling import get_pool

def session():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]
"""


@pytest.fixture
def project(postgresql: PostgresDatabase, tmp_path: Path) -> Project:
    """A project for gunicorn, with a pool of 5."""
    postgresql.entry["OPTIONS"]["pool"] = {"max_size": 5, "timeout": SECONDS}
    project = Project(tmp_path / "project", {"default": postgresql.entry})
    project.write("application.py", APPLICATION)
    project.write("urls.py", URLS)
    return project


@pytest.mark.parametrize("preload", [False, True], ids=["late", "preload"])
def test_greenlets_share_the_pool(
    project: Project, postgresql: PostgresDatabase, psycopg2: bool, preload: bool
) -> None:
    """scenario 34: 50 requests at once, 5 queries at once, and nobody fails.

    The five are inside a query at the same time, and the worker answers others meanwhile. With
    --preload, gunicorn.conf.py has to patch before the master loads the application.
    """
    project.write("gunicorn.conf.py", PATCH_FIRST * preload + PSYCOGREEN * psycopg2)
    arguments = ["--preload"] * preload
    with (
        Gate(postgresql) as gate,
        gunicorn(project, "--worker-class", "gevent", *arguments) as server,
    ):
        answers = server.get_at_once("/gate", 50)
        eventually(lambda: server.get("/stats")["waiting"] == 45)
        eventually(lambda: len(gate.crowd()) == 5)
        assert sorted(gate.crowd()) == sorted(postgresql.sessions())
        gate.open()
        sessions = {answer.result(SECONDS)["session"] for answer in answers}
        assert sessions == set(postgresql.sessions())
        stats = server.get("/stats")
        assert (stats["connects"], stats["connect_errors"], stats["leased"]) == (5, 0, 0)
    eventually(lambda: not postgresql.sessions())


def test_without_psycogreen_one_query_runs_at_a_time(
    project: Project, postgresql: PostgresDatabase
) -> None:
    """scenario 34: psycopg2 alone stops the whole worker while it waits; nothing fails for it."""
    arguments = ["--worker-class", "gevent"]
    with (
        Gate(postgresql) as gate,
        gunicorn(project, *arguments, environment={"TEST_DRIVER": "psycopg2"}) as server,
    ):
        assert server.get("/stats")["leased"] == 0  # it has begun to work
        answers = server.get_at_once("/gate", 10)
        eventually(lambda: len(gate.crowd()) == 1)
        done, _ = wait(answers, timeout=0)
        assert not done
        gate.open()
        assert all(answer.result(SECONDS) for answer in answers)
        assert server.get("/stats")["connect_errors"] == 0


def test_a_pool_that_was_imported_before_the_patching_is_refused(project: Project) -> None:
    """scenario 34: such a process would stop at its first wait; it says so and does not.

    With --preload the master has loaded everything when the worker patches.
    """
    with (
        gunicorn(project, "--worker-class", "gevent", "--preload") as server,
        pytest.raises(AssertionError, match=r"ImproperlyConfigured.*monkey"),
    ):
        server.get("/session")


def test_greenlets_that_never_close_give_back_by_ending(project: Project) -> None:
    """scenario 34, scenario 9: although gevent calls the thread of a greenlet alive for ever."""
    project.write(
        "program.py",
        GREENLETS
        + """
greenlets = [gevent.spawn(session) for _ in range(20)]
gevent.joinall(greenlets)
assert len({greenlet.get() for greenlet in greenlets}) <= 5
assert get_pool().stats().recovered >= 15
assert get_pool().stats().timeouts == 0
""",
    )
    assert "Error" not in project.python("program.py", strict=False).stderr


def test_a_round_trip_of_the_pool_lets_other_greenlets_run(
    project: Project, postgresql: PostgresDatabase
) -> None:
    """scenario 34, scenario 26: here it needs them, since a greenlet carries it to the server."""
    postgresql.entry["OPTIONS"]["pool"] = {"min_size": 0, "reset": "session", "ping_after": 0}
    relayed = {**postgresql.entry, "HOST": "127.0.0.1", "PORT": "{port}"}
    project = Project(project.folder, {"default": relayed})
    host, port = postgresql.entry["HOST"], postgresql.entry["PORT"]
    project.write(
        "program.py",
        GREENLETS.replace("import django\n", RELAY.format(host=host, port=port))
        + """
first = session()
connection.close()       # the session is cleaned
assert session() == first  # after a ping
connection.close()
""",
    )
    assert "Error" not in project.python("program.py", strict=False).stderr


RELAY = """
from django.conf import settings
from gevent import socket
from gevent.server import StreamServer

def pump(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.close()

def carry(client, address):
    if {host!r}.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect("{host}/.s.PGSQL.{port}")
    else:
        server = socket.create_connection(({host!r}, {port!r}))
    gevent.spawn(pump, server, client)
    pump(client, server)

relay = StreamServer(("127.0.0.1", 0), carry)
relay.start()
settings.DATABASES["default"]["PORT"] = str(relay.server_port)
import django
"""
