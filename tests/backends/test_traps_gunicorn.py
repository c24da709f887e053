"""Gunicorn with `--preload`, the real one."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.backends.databases import eventually

if TYPE_CHECKING:
    from tests.backends.databases import Database
    from tests.backends.projects import Project

GUNICORN = """
import os
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse

application = get_wsgi_application()

from django.db import connection
from things.models import Thing

# What --preload makes dangerous: the master is connected when it forks.
Thing.objects.count()
MASTER = os.getpid()

def server_pid():
    if connection.vendor != "postgresql":
        return id(connection.connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
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


def test_gunicorn_with_preload(project: Project, database: Database) -> None:
    """trap 19: the workers are forks of a master that is connected already."""
    project.write("application.py", GUNICORN)
    project.write("urls.py", GUNICORN_URLS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (project.folder / "log").open("w+")
    server = subprocess.Popen(
        project.command(
            *("-m", "gunicorn", "--preload", "--workers", "2", "--no-control-socket"),
            *("--bind", f"127.0.0.1:{port}", "application:application"),
            strict=False,
        ),
        cwd=project.folder,
        env=project.environment(),
        stdout=log,
        stderr=log,
    )

    def ask() -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as response:
                return json.load(response)
        except OSError:
            assert server.poll() is None, (project.folder / "log").read_text()
            return None

    try:
        answers = [eventually(ask)]
        eventually(lambda: answers.append(ask()) or len({each["pid"] for each in answers}) == 2)
        for answer in answers:
            assert answer["worker"]
            assert answer["connects"] == 1
            if database.vendor == "postgresql":
                assert answer["session"] != answer["master"]
        if database.vendor == "postgresql":
            used = {(each["pid"], each["session"]) for each in answers}
            assert len(used) == 2  # one session for each worker, however many requests
            assert set(database.sessions()) == {answers[0]["master"], *(pid for _, pid in used)}
    finally:
        server.terminate()
        assert server.wait(60) == 0
        log.close()
    assert "Traceback" not in (project.folder / "log").read_text()
    eventually(lambda: not database.sessions())
    assert database.execute("SELECT count(*) FROM things_thing") == [(len(answers),)]
