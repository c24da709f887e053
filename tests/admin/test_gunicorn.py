"""Three workers of gunicorn are three processes on the page, whichever of them makes it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.urls import reverse

from tests.admin.conftest import LIVE
from tests.support.databases import eventually
from tests.support.projects import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = """
from pathlib import Path
from tests.settings import *

HERE = Path(__file__).parent
DATABASES = {"default": {"ENGINE": "pooling.backends.sqlite3", "NAME": HERE / "db.sqlite3"}}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": HERE / "cache",
    }
}
POOLING = {"publish_every": 0.2}
"""
LOG_IN = """
import django, settings
settings.POOLING = {"publish_every": None}  # this one is no part of the fleet
django.setup()
from django.core.management import call_command
from django.test import Client
from users.models import User
call_command("migrate", verbosity=0)
root = User.objects.create_superuser("root", "root@example.com", "geheimes-passwort-13")
client = Client()
client.force_login(root)
print(client.cookies["sessionid"].value)
"""


@contextmanager
def gunicorn(project: Project, port: int) -> Iterator[None]:
    with (project.folder / "log").open("w") as log:
        server = subprocess.Popen(
            project.command(
                *("-m", "gunicorn", "--workers", "3", "--no-control-socket"),
                *("--bind", f"127.0.0.1:{port}", "django.core.wsgi:get_wsgi_application()"),
                strict=False,
            ),
            cwd=project.folder,
            env=project.environment(),
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            server.terminate()
            assert server.wait(60) == 0


def test_three_workers_are_three_processes(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    project.write("settings.py", SETTINGS)
    project.write("log_in.py", LOG_IN)
    session = project.python("log_in.py", strict=False).stdout.strip()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def seen() -> set[int]:
        """Return the process ids on the page of the worker that answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{reverse(LIVE)}", headers={"Cookie": f"sessionid={session}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                page = response.read().decode()
        except OSError:
            return set()
        assert "This page shows one process" not in page
        assert "geheimes-passwort-13" not in page
        return {int(pid) for pid in re.findall(r'<tr data-key="[^" ]+:(\d+)">', page)}

    with gunicorn(project, port):
        workers = eventually(lambda: pids if len(pids := seen()) == 3 else None)
        victim = min(workers)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: (pids := seen()) and victim not in pids)
        # gunicorn starts another one, which is seen as soon as it is used.
        eventually(lambda: len(seen() - {victim}) == 3)
    log = (project.folder / "log").read_text()
    assert "Traceback" not in log, log
