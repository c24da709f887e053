"""A server with three workers: the metrics and `poolstats` show them all, whoever answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from tests.metrics.test_exposition import values
from tests.support.databases import eventually
from tests.support.projects import Project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase

WORKERS = 3
TOKEN = "a-token-that-is-long-enough"
PLANTED = "planted-s3cret-passw0rd"

MORE_SETTINGS = """
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(Path(__file__).parent / "cache"),
    }
}
POOLING = {"publish_every": 0.2, "metrics_token": "a-token-that-is-long-enough"}
SECRET_KEY = "planted-s3cret-passw0rd"
"""

URLS = """
import os, time
from pathlib import Path
from django.db import connection
from django.http import HttpResponse
from django.urls import include, path

def pid(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse(str(os.getpid()))

def hold(request):
    connection.ensure_connection()
    while not Path(__file__).with_name("let-go").exists():
        time.sleep(0.01)
    return HttpResponse("")

urlpatterns = [
    path("pid/", pid),
    path("reports/<int:number>/", lambda request, number: hold(request)),
    path("pooling/", include("pooling.urls")),
]
"""


class Server:
    """gunicorn in a project, and what it answers."""

    def __init__(self, project: Project) -> None:
        self.project = project
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with (project.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                project.command(
                    *("-m", "gunicorn", "--workers", str(WORKERS), "--threads", "4"),
                    *("--no-control-socket", "--bind", f"127.0.0.1:{self.port}"),
                    "application:application",
                    strict=False,
                ),
                cwd=project.folder,
                env=project.environment(),
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> str | None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                text: str = response.read().decode()
                return text
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert self.process.poll() is None, (self.project.folder / "log").read_text()
            return None

    def in_metrics(self) -> dict[int, float]:
        """Return the processes whose pools are in the metrics, with their connections."""
        found = values(self.get("/pooling/metrics") or "", read_prometheus)
        sizes: dict[int, float] = {}
        for (name, *labels), value in found.items():
            if name == "pooling_connections":
                sizes[int(labels[2])] = sizes.get(int(labels[2]), 0) + value
        return sizes

    def in_json(self) -> set[int]:
        processes = json.loads(self.get("/pooling/metrics.json") or '{"processes": []}')
        return {process["pid"] for process in processes["processes"] if process["pools"]}

    def in_poolstats(self, *args: str) -> Any:
        text = self.project.manage("poolstats", "--json", *args).stdout
        return {process["pid"]: process["pools"][0] for process in json.loads(text)["processes"]}


def test_every_process_is_seen_and_one_that_was_killed_goes(
    postgresql: PostgresDatabase, tmp_path: Path
) -> None:
    project = Project(tmp_path / "project", {"default": postgresql.entry})
    project.write("urls.py", URLS)
    project.write("settings.py", (project.folder / "settings.py").read_text() + MORE_SETTINGS)
    project.write(
        "application.py",
        "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    )
    server = Server(project)
    try:
        workers: set[int] = set()

        def met_all() -> bool:
            answer = server.get("/pid/")
            workers.update([int(answer)] if answer else [])
            return len(workers) == WORKERS

        eventually(met_all)
        # The metrics, whichever worker answers, and a process that has nothing to do with them.
        eventually(lambda: server.in_metrics().keys() == workers)
        eventually(lambda: server.in_json() == workers)
        assert server.in_poolstats().keys() == workers

        # The numbers are true: nothing moves now.
        eventually(lambda: sum(server.in_metrics().values()) == len(postgresql.sessions()))

        # Somebody holds a connection: who, is answered in the terminal.
        holding = threading.Thread(target=server.get, args=["/reports/7/?secret=hidden"])
        holding.start()

        def held() -> list[str]:
            pools = server.in_poolstats().values()
            return [lease["note"] for pool in pools for lease in pool["holders"]]

        eventually(lambda: held() == ["GET /reports/7/"])
        shown = project.manage("poolstats").stdout
        assert "GET /reports/7/" in shown
        (project.folder / "let-go").touch()
        holding.join(30)
        eventually(lambda: held() == [])

        victim = min(workers)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in server.in_metrics())
        eventually(lambda: victim not in server.in_json())
        assert victim not in server.in_poolstats()
        assert workers - {victim} <= server.in_poolstats().keys()

        texts = [shown, project.manage("poolstats", "--json").stdout]
        texts += [server.get(path) or "" for path in ("/pooling/metrics", "/pooling/metrics.json")]
        for text in [*texts, (project.folder / "log").read_text()]:
            assert [word for word in (PLANTED, TOKEN, "hidden") if word in text] == []
    finally:
        (project.folder / "let-go").touch()
        server.process.terminate()
        assert server.process.wait(60) == 0
