"""Gunicorn's sync and gthread workers, with and without `--preload`, the real ones."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.support.databases import SERVERS, eventually
from tests.support.projects import SECONDS, Project
from tests.support.serving import URLS, Gate, gunicorn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import Database

GUNICORN = """
import os
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse

application = get_wsgi_application()

from django.db import connection
from tests.support.servers import SESSION_ID
from things.models import Thing

# What --preload makes dangerous: the master is connected when it forks.
Thing.objects.count()
MASTER = os.getpid()

def server_pid():
    if connection.vendor == "sqlite":
        return id(connection.connection)
    with connection.cursor() as cursor:
        cursor.execute(SESSION_ID[connection.vendor])
        return cursor.fetchone()[0]

MASTERS_SESSION = server_pid()
"""

GUNICORN_URLS = """
import os
from django.http import JsonResponse
from django.urls import path
from pooling import get_pool

def view(request):
    import application
    from things.models import Thing
    Thing.objects.create(name="by a worker")
    return JsonResponse({
        "worker": os.getpid() != application.MASTER,
        "pid": os.getpid(),
        "session": application.server_pid(),
        "master": application.MASTERS_SESSION,
        "connects": get_pool().stats().connects,
    })

urlpatterns = [path("", view)]
"""


APPLICATION = """
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""


def test_gunicorn_with_preload(project: Project, database: Database) -> None:
    """trap 19, scenario 34: the workers are forks of a master that is connected already."""
    project.write("application.py", GUNICORN)
    project.write("urls.py", GUNICORN_URLS)
    with gunicorn(project, "--preload", "--workers", "2") as server:
        answers = [server.get()]
        eventually(
            lambda: answers.append(server.get()) or len({each["pid"] for each in answers}) == 2
        )
        for answer in answers:
            assert answer["worker"]
            assert answer["connects"] == 1
            if database.vendor != "sqlite":
                assert answer["session"] != answer["master"]
        if database.vendor != "sqlite":
            used = {(each["pid"], each["session"]) for each in answers}
            assert len(used) == 2  # one session for each worker, however many requests
            assert set(database.sessions()) == {answers[0]["master"], *(pid for _, pid in used)}
    eventually(lambda: not database.sessions())
    assert database.execute("SELECT count(*) FROM things_thing") == [(len(answers),)]


@SERVERS
def test_four_preloaded_workers_have_four_sessions(database: Database, tmp_path: Path) -> None:
    """scenario 34: all at the same time, and none of them is the master's."""
    project = _project(database, tmp_path, GUNICORN, max_size=3)
    with (
        Gate(database) as gate,
        gunicorn(project, "--preload", "--workers", "4") as server,
    ):
        assert server.get("/stats")["leased"] == 0  # it has begun to work
        # A sync worker takes one request at a time, so these are all there are.
        answers = server.get_at_once("/gate", 4)
        eventually(lambda: len(gate.crowd()) == 4)
        (master,) = set(database.sessions()) - set(gate.crowd())
        gate.open()
        results = [answer.result(SECONDS) for answer in answers]
        assert len({result["process"] for result in results}) == 4
        assert len({result["session"] for result in results}) == 4
        assert sorted(database.sessions()) == sorted(
            [master, *(result["session"] for result in results)]
        )
    eventually(lambda: not database.sessions())


@SERVERS
def test_a_sync_worker_has_one_session(database: Database, tmp_path: Path) -> None:
    """scenario 34: one thread, one connection, whatever `max_size` says."""
    project = _project(database, tmp_path, APPLICATION, max_size=3)
    with gunicorn(project, "--worker-class", "sync") as server:
        answers = [answer.result(SECONDS) for answer in server.get_at_once("/session", 20)]
        assert {answer["session"] for answer in answers} == set(database.sessions())
        assert len(database.sessions()) == 1
        stats = server.get("/stats")
        assert (stats["connects"], stats["leased"]) == (1, 0)
    eventually(lambda: not database.sessions())


@SERVERS
def test_the_threads_of_a_gthread_worker_share_the_pool(database: Database, tmp_path: Path) -> None:
    """scenario 34: 8 threads on 3 connections; the 9th takes the question of how it goes."""
    project = _project(database, tmp_path, APPLICATION, max_size=3, timeout=SECONDS)
    with (
        Gate(database) as gate,
        gunicorn(project, "--worker-class", "gthread", "--threads", "9") as server,
    ):
        answers = server.get_at_once("/gate", 8)
        eventually(lambda: len(gate.crowd()) == 3)
        eventually(lambda: server.get("/stats")["waiting"] == 5)
        assert sorted(gate.crowd()) == sorted(database.sessions())
        gate.open()
        sessions = {answer.result(SECONDS)["session"] for answer in answers}
        assert sessions == set(database.sessions())
        stats = server.get("/stats")
        assert (stats["connects"], stats["leased"], stats["recovered"]) == (3, 0, 0)
    eventually(lambda: not database.sessions())


@SERVERS
def test_a_worker_that_is_killed_leaves_no_session(database: Database, tmp_path: Path) -> None:
    """scenario 34: the server sees it go; the next one connects for itself."""
    project = _project(database, tmp_path, GUNICORN, max_size=3)
    with gunicorn(project, "--preload", "--workers", "1") as server:
        killed = server.get("/session")
        (master,) = {*database.sessions()} - {killed["session"]}
        os.kill(killed["process"], signal.SIGKILL)
        eventually(lambda: killed["session"] not in database.sessions())
        answer = server.get("/session")
        assert answer["process"] != killed["process"]
        assert {*database.sessions()} == {master, answer["session"]}
    eventually(lambda: not database.sessions())


@SERVERS
def test_requests_end_before_their_worker_when_it_is_terminated(
    database: Database, tmp_path: Path
) -> None:
    """scenario 34: SIGTERM lets requests end, waiting ones too, and then the sessions end."""
    project = _project(database, tmp_path, APPLICATION, max_size=2, timeout=SECONDS)
    with (
        Gate(database) as gate,
        gunicorn(project, "--worker-class", "gthread", "--threads", "5") as server,
    ):
        answers = server.get_at_once("/gate", 4)
        eventually(lambda: len(gate.crowd()) == 2)
        eventually(lambda: server.get("/stats")["waiting"] == 2)
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: "Handling signal: term" in server.log)
        assert not any(answer.done() for answer in answers)
        gate.open()
        assert len({answer.result(SECONDS)["session"] for answer in answers}) == 2
        eventually(lambda: not database.sessions())


def _project(database: Database, tmp_path: Path, application: str, **pool: float) -> Project:
    database.entry["OPTIONS"]["pool"] = {"min_size": 0, **pool}
    project = Project(tmp_path / "project", {"default": database.entry})
    project.migrate()
    project.write("application.py", application)
    project.write("urls.py", URLS)
    return project
