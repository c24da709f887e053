"""Celery's prefork worker, the real one, with a broker made of files."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.backends.databases import eventually
from tests.backends.projects import SECONDS

if TYPE_CHECKING:
    from tests.backends.databases import Database
    from tests.backends.projects import Project

APPLICATION = """
import os
from pathlib import Path
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
folder = Path(__file__).parent / "broker"
for name in ("queue", "processed", "control"):
    (folder / name).mkdir(parents=True, exist_ok=True)
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "processed_folder": str(folder / "processed"),
        "control_folder": str(folder / "control"),
        "store_processed": True,
        "polling_interval": 0.02,
    },
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)

@app.task
def work(number):
    import json
    from django.conf import settings
    from django.db import connection
    from pooling import get_pool
    from things.models import Thing

    # Else Celery has no reason to call close_pool(), and the test shows nothing.
    assert settings.DATABASES["default"]["OPTIONS"]["pool"]
    connection.ensure_connection()
    raw = connection.connection
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            session = cursor.fetchone()[0]
    else:
        session = id(raw)
    stats = get_pool().stats()
    Thing.objects.create(
        name=json.dumps([os.getpid(), session, stats.connects, stats.leased])
    )
"""


def test_the_prefork_worker_keeps_its_connection_between_tasks(
    project: Project, database: Database
) -> None:
    """trap 2: it calls `close_pool()` after every task, and the pool survives."""
    project.write("application.py", APPLICATION)
    project.python(
        "-c",
        "import django; django.setup(); from application import work\n"
        "for number in range(8): work.delay(number)",
        strict=False,
    )
    with (project.folder / "log").open("w") as log:
        worker = subprocess.Popen(
            project.command(
                *("-m", "celery", "--app", "application", "worker", "--pool", "prefork"),
                *("--concurrency", "1", "--without-gossip", "--without-mingle"),
                *("--without-heartbeat", "--loglevel", "INFO"),
                strict=False,
            ),
            cwd=project.folder,
            env={**project.environment(), "C_FORCE_ROOT": "1"},
            stdout=log,
            stderr=log,
        )
    try:

        def finished() -> list[list[int]]:
            assert worker.poll() is None, (project.folder / "log").read_text()
            rows = database.execute("SELECT name FROM things_thing")
            return [json.loads(name) for (name,) in rows] if len(rows) == 8 else []

        tasks = eventually(finished)
        processes = {process for process, *_ in tasks}
        assert len(processes) == 1
        assert worker.pid not in processes
        # One physical connection, opened once, and one lease at a time.
        assert len({session for _, session, _, _ in tasks}) == 1
        assert {(connects, leased) for _, _, connects, leased in tasks} == {(1, 1)}
        if database.vendor == "postgresql":
            assert database.sessions() == [tasks[0][1]]
    finally:
        worker.terminate()
        code = worker.wait(SECONDS)
    log_text = (project.folder / "log").read_text()
    assert code == 0, log_text
    assert "Traceback" not in log_text
    eventually(lambda: not database.sessions())
