"""Programs of a test project that go on until they are told to end: web servers and workers."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.databases import PostgresDatabase
from tests.support.mariadb import MariaDatabase
from tests.support.projects import SECONDS
from tests.support.servers import driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from typing import Self

    from tests.support.databases import Database
    from tests.support.projects import Project

URLS = """
import os, threading, traceback
from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection
from django.http import HttpResponseServerError, JsonResponse
from django.urls import path
from pooling import get_pool
from tests.support.servers import PASS_GATE, SESSION_ID

def session():
    with connection.cursor() as cursor:
        cursor.execute(SESSION_ID[connection.vendor])
        return cursor.fetchone()[0]

def wait_at_gate():
    wait, go_on = PASS_GATE[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(wait)
        (number, _), = cursor.fetchall()
        cursor.execute(go_on)
    return {"session": number, "process": os.getpid()}

def gate(request):
    return JsonResponse(wait_at_gate())

def session_view(request):
    return JsonResponse({"session": session(), "process": os.getpid()})

def stats(request):
    stats = get_pool().stats()
    names = ("leased", "waiting", "size", "connects", "connect_errors", "recovered", "max_size")
    return JsonResponse({"process": os.getpid(), **{name: getattr(stats, name) for name in names}})

def handler500(request):
    return HttpResponseServerError(traceback.format_exc())

urlpatterns = [path("gate", gate), path("session", session_view), path("stats", stats)]
"""
"""Views for projects on a server. Those at the gate wait until the test opens it."""


GATE = {
    "postgresql": (
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_unlock(1)",
        """
        SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND wait_event = 'advisory'
        """,
    ),
    "mysql": (
        "SELECT GET_LOCK(DATABASE(), 0)",
        "SELECT RELEASE_LOCK(DATABASE())",
        """
        SELECT id FROM information_schema.processlist WHERE db = DATABASE()
        AND state = 'User lock'
        """,
    ),
}
"""How the gate is closed and opened, and how to see the sessions that wait there."""


class Program:
    """A process of the project, with its output in a file.

    Attributes:
        port: where it listens, for web servers.
    """

    def __init__(self, project: Project, process: subprocess.Popen[bytes], port: int) -> None:
        self._project = project
        self._process = process
        self._callers = ThreadPoolExecutor(256)
        self.port = port
        self.pid = process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self._project.folder / "log").read_text()

    def assert_running(self) -> None:
        assert self._process.poll() is None, self.log

    def get(self, path: str = "/") -> Any:
        """Return the answer to a request, which must be a good one."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}\n{self.log}") from error
        except OSError as error:
            raise AssertionError(f"{path}: {error}\n{self.log}") from error

    def get_at_once(self, path: str, count: int) -> list[Future[Any]]:
        """Make so many requests at the same time, and do not wait for the answers."""
        return [self._callers.submit(self.get, path) for _ in range(count)]

    def end(self, by: signal.Signals) -> None:
        """Ask it to end. It must do so, with a good exit code and without a complaint."""
        self._process.send_signal(by)
        try:
            code = self._process.wait(SECONDS)
        finally:
            self._callers.shutdown(wait=False, cancel_futures=True)
        # Uvicorn cleans up and then dies of the signal after all, as shells expect it.
        assert code in (0, -by), f"{code}\n{self.log}"
        assert "Traceback" not in self.log, self.log

    def kill(self) -> None:
        """End it if it has not ended yet."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(SECONDS)
        self._callers.shutdown(wait=False, cancel_futures=True)


@contextmanager
def running(
    project: Project,
    *args: str,
    port: int = 0,
    listener: socket.socket | None = None,
    environment: dict[str, str] | None = None,
    end_by: signal.Signals = signal.SIGTERM,
) -> Iterator[Program]:
    """Run an interpreter with these arguments, and end it politely after a test that went well.

    Args:
        port: where it will listen.
        listener: a socket for it to inherit, under the same number.
        environment: variables, added to those of the project.
        end_by: the signal that ends it.
    """
    with (project.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            project.command(*args, strict=False),
            cwd=project.folder,
            env={**project.environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=() if listener is None else (listener.fileno(),),
        )
    program = Program(project, process, port)
    try:
        yield program
        program.end(end_by)
    finally:
        program.kill()


class Gate:
    """A lock in the database, at which views wait inside a query until the test lets them go on.

    So what happens at the same time does so for sure, and not because a query takes long.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._close, self._open, self._crowd = GATE[database.vendor]
        if isinstance(database, MariaDatabase):
            self._holder = database.server.connect(database=database.entry["NAME"])
        else:
            assert isinstance(database, PostgresDatabase)
            self._holder = driver().connect(database.url)
            self._holder.autocommit = True

    def __enter__(self) -> Self:
        self._execute(self._close)
        return self

    def __exit__(self, *args: object) -> None:
        self._holder.close()

    def open(self) -> None:
        """Let everybody go on."""
        self._execute(self._open)

    def crowd(self) -> list[int]:
        """Return the sessions that wait at the gate now."""
        return [number for (number,) in self._database.execute(self._crowd)]

    def _execute(self, statement: str) -> None:
        with self._holder.cursor() as cursor:
            cursor.execute(statement)


def listen() -> socket.socket:
    """Return a listening socket.

    A server that inherits it needs no port that somebody else might take meanwhile, and nobody has
    to try until it is up: whoever calls earlier waits in the socket's queue.
    """
    return socket.create_server(("127.0.0.1", 0), backlog=512)


@contextmanager
def gunicorn(
    project: Project, *args: str, environment: dict[str, str] | None = None
) -> Iterator[Program]:
    """Serve `application:application` of the project with gunicorn."""
    with listen() as listener:
        port = listener.getsockname()[1]
        server = running(
            project,
            *("-m", "gunicorn", "--no-control-socket", "--bind", f"fd://{listener.fileno()}"),
            *(*args, "application:application"),
            port=port,
            listener=listener,
            environment=environment,
        )
        with server as program:
            listener.close()  # else callers would wait for a server that is gone
            yield program


@contextmanager
def uvicorn(project: Project, *args: str) -> Iterator[Program]:
    """Serve `application:application` of the project with uvicorn."""
    with listen() as listener:
        port = listener.getsockname()[1]
        server = running(
            project,
            *("-m", "uvicorn", "--fd", str(listener.fileno()), "--no-access-log"),
            *(*args, "application:application"),
            port=port,
            listener=listener,
        )
        with server as program:
            listener.close()
            yield program
