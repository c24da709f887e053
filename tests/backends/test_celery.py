"""Celery's prefork and threads workers, the real ones, with a broker made of files."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from tests.support.databases import SERVERS_MARIADB_SLOW, checks_connect, eventually
from tests.support.projects import Project
from tests.support.serving import Gate, running

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.databases import Database
    from tests.support.serving import Program

APPLICATION = """
import os
from pathlib import Path
from celery import Celery
from tests.support.servers import PASS_GATE, SESSION_ID

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
    if connection.vendor != "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(SESSION_ID[connection.vendor])
            session = cursor.fetchone()[0]
    else:
        session = id(raw)
    stats = get_pool().stats()
    Thing.objects.create(
        name=json.dumps([os.getpid(), session, stats.connects, stats.leased])
    )

@app.task
def pass_gate():
    import json
    from django.db import connection
    from pooling import get_pool
    from things.models import Thing

    wait, go_on = PASS_GATE[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(wait)
        session = cursor.fetchone()[0]
        cursor.execute(go_on)
    stats = get_pool().stats()
    Thing.objects.create(name=json.dumps([session, stats.connects, stats.recovered]))
"""


def _worker(project: Project, pool: str, concurrency: int) -> AbstractContextManager[Program]:
    return running(
        project,
        *("-m", "celery", "--app", "application", "worker", "--pool", pool),
        *("--concurrency", str(concurrency), "--without-gossip", "--without-mingle"),
        *("--without-heartbeat", "--loglevel", "INFO"),
        environment={"C_FORCE_ROOT": "1"},
    )


def _ask_for(project: Project, task: str) -> None:
    project.python(
        "-c", f"import django; django.setup()\nfrom application import *\n{task}", strict=False
    )


def _results(database: Database, worker: Program, count: int) -> list[list[int]]:
    worker.assert_running()
    return _rows(database, count)


def _rows(database: Database, count: int) -> list[list[int]]:
    rows = database.execute("SELECT name FROM things_thing")
    return [json.loads(name) for (name,) in rows] if len(rows) == count else []


def test_the_prefork_worker_keeps_its_connection_between_tasks(
    project: Project, database: Database
) -> None:
    """trap 2, scenario 34: it calls `close_pool()` after every task, and the pool survives."""
    project.write("application.py", APPLICATION)
    _ask_for(project, "for number in range(8): work.delay(number)")
    with _worker(project, "prefork", 1) as worker:
        eventually(lambda: worker.log.count(" ready."))
        tasks = eventually(lambda: _results(database, worker, 8))
        processes = {process for process, *_ in tasks}
        assert len(processes) == 1
        assert worker.pid not in processes
        # One physical connection, opened once, and one lease at a time.
        assert len({session for _, session, _, _ in tasks}) == 1
        assert {(connects, leased) for _, _, connects, leased in tasks} == {(1, 1)}
        if database.vendor != "sqlite" and not checks_connect(database):
            assert database.sessions() == [tasks[0][1]]
    eventually(lambda: not database.sessions())


@SERVERS_MARIADB_SLOW
def test_the_threads_worker_gives_back_after_every_task(database: Database, tmp_path: Path) -> None:
    """scenario 34: its threads live on; 6 of them get along with 2 connections."""
    database.entry["OPTIONS"]["pool"] = {"min_size": 0, "max_size": 2}
    project = Project(tmp_path / "project", {"default": database.entry})
    project.migrate()
    project.write("application.py", APPLICATION)
    _ask_for(project, "for _ in range(18): pass_gate.delay()")
    with Gate(database) as gate, _worker(project, "threads", 6) as worker:
        eventually(lambda: worker.log.count(" ready."))
        eventually(lambda: len(gate.crowd()) == 2)
        assert sorted(gate.crowd()) == sorted(database.sessions())
        gate.open()
        tasks = eventually(lambda: _results(database, worker, 18))
        assert {session for session, _, _ in tasks} == set(database.sessions())
        assert {(connects, recovered) for _, connects, recovered in tasks} == {(2, 0)}
    eventually(lambda: not database.sessions())


@SERVERS_MARIADB_SLOW
def test_tasks_end_before_their_worker_when_it_is_terminated(
    database: Database, tmp_path: Path
) -> None:
    """scenario 34: SIGTERM lets tasks end that have begun, waiting ones too, then the sessions."""
    database.entry["OPTIONS"]["pool"] = {"min_size": 0, "max_size": 2}
    project = Project(tmp_path / "project", {"default": database.entry})
    project.migrate()
    project.write("application.py", APPLICATION)
    _ask_for(project, "for _ in range(4): pass_gate.delay()")
    with Gate(database) as gate, _worker(project, "threads", 4) as worker:
        eventually(lambda: worker.log.count(" ready."))
        eventually(lambda: len(gate.crowd()) == 2)
        eventually(lambda: worker.log.count(" received") == 4)
        os.kill(worker.pid, signal.SIGTERM)
        eventually(lambda: "Warm shutdown" in worker.log)
        assert len(database.sessions()) == 2
        gate.open()
        tasks = eventually(lambda: _rows(database, 4))
        assert {connects for _, connects, _ in tasks} == {2}
    eventually(lambda: not database.sessions())
