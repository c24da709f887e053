"""Celery's worker, the real one: a lease is known by the task that holds it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.backends.test_celery import APPLICATION
from tests.support.databases import eventually
from tests.support.projects import SECONDS, Project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import SqliteDatabase

TASKS = """

@app.task(name="reports.monthly")
def report(secret):
    import json
    from django.db import connection
    from pooling import activity, get_pool
    from things.models import Thing

    connection.ensure_connection()
    notes = [holder.note for holder in get_pool().holders()]
    Thing.objects.create(name=json.dumps([notes, activity.current()]))
"""


def test_a_task_is_known_by_its_name_and_never_by_its_arguments(
    sqlite: SqliteDatabase, tmp_path: Path
) -> None:
    sqlite.entry["OPTIONS"].pop("factory", None)
    project = Project(tmp_path / "project", {"default": sqlite.entry})
    project.migrate()
    project.write("application.py", APPLICATION + TASKS)
    project.python(
        "-c",
        "import django; django.setup(); from application import report\n"
        "for number in range(3): report.delay('secret')",
        strict=False,
    )
    with (project.folder / "log").open("w") as log:
        worker = subprocess.Popen(
            project.command(
                *("-m", "celery", "--app", "application", "worker", "--pool", "prefork"),
                *("--concurrency", "1", "--without-gossip", "--without-mingle"),
                *("--without-heartbeat", "--loglevel", "WARNING"),
                strict=False,
            ),
            cwd=project.folder,
            env={**project.environment(), "C_FORCE_ROOT": "1"},
            stdout=log,
            stderr=log,
        )
    try:

        def finished() -> list[str]:
            assert worker.poll() is None, (project.folder / "log").read_text()
            rows = sqlite.execute("SELECT name FROM things_thing")
            return [name for (name,) in rows] if len(rows) == 3 else []

        for name in eventually(finished):
            assert json.loads(name) == [["task reports.monthly"], "task reports.monthly"]
    finally:
        worker.terminate()
        worker.wait(SECONDS)
