"""Uvicorn with sync and async views, the real one."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import eventually
from tests.support.projects import SECONDS, Project
from tests.support.serving import URLS, Gate, uvicorn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabase

APPLICATION = """
from django.core.asgi import get_asgi_application

application = get_asgi_application()
"""
ASYNC_URLS = """
from concurrent.futures import ThreadPoolExecutor
from things.models import Thing

async def async_gate(request):
    await Thing.objects.acreate(name="by an async view")
    return JsonResponse(await sync_to_async(wait_at_gate)())

def wait_and_close():
    try:
        Thing.objects.create(name="by an executor")
        return wait_at_gate()
    finally:
        close_old_connections()

executor = ThreadPoolExecutor(20)
in_executor = sync_to_async(wait_and_close, thread_sensitive=False, executor=executor)

async def executor_gate(request):
    return JsonResponse(await in_executor())

def sync_gate(request):
    Thing.objects.create(name="by a sync view")
    return gate(request)

urlpatterns += [
    path("async-gate", async_gate), path("executor-gate", executor_gate),
    path("sync-gate", sync_gate),
]
"""


@pytest.mark.parametrize(
    ("path", "threads"), [("/async-gate", 200), ("/sync-gate", 200), ("/executor-gate", 20)]
)
def test_200_requests_share_5_connections(
    postgresql: PostgresDatabase, tmp_path: Path, path: str, threads: int
) -> None:
    """scenario 34: nobody fails, and the server never sees a sixth session.

    Under ASGI every request has a thread of its own for what is not asynchronous, or shares those
    of an executor; all of them are in a query or in the pool's queue when the gate opens.
    """
    postgresql.entry["OPTIONS"]["pool"] = {"max_size": 5, "timeout": SECONDS}
    project = Project(tmp_path / "project", {"default": postgresql.entry})
    project.migrate()
    project.write("application.py", APPLICATION)
    project.write("urls.py", URLS + ASYNC_URLS)
    with Gate(postgresql) as gate, uvicorn(project) as server:
        answers = server.get_at_once(path, 200)
        eventually(lambda: server.get("/stats")["waiting"] == threads - 5)
        eventually(lambda: len(gate.crowd()) == 5)
        assert sorted(gate.crowd()) == sorted(postgresql.sessions())
        gate.open()
        sessions = {answer.result(SECONDS)["session"] for answer in answers}
        assert sessions == set(postgresql.sessions())
        stats = eventually(lambda: (stats := server.get("/stats"))["leased"] == 0 and stats)
        # Five connections were ever opened, so there were never more than five at a time.
        assert (stats["connects"], stats["connect_errors"], stats["recovered"]) == (5, 0, 0)
    assert postgresql.execute("SELECT count(*) FROM things_thing") == [(200,)]
    eventually(lambda: not postgresql.sessions())


def test_requests_end_before_the_server_when_it_is_terminated(
    postgresql: PostgresDatabase, tmp_path: Path
) -> None:
    """scenario 34: SIGTERM lets requests end, waiting ones too, and then the sessions end."""
    postgresql.entry["OPTIONS"]["pool"] = {"min_size": 0, "max_size": 2, "timeout": SECONDS}
    project = Project(tmp_path / "project", {"default": postgresql.entry})
    project.write("application.py", APPLICATION)
    project.write("urls.py", URLS)
    with Gate(postgresql) as gate, uvicorn(project) as server:
        answers = server.get_at_once("/gate", 4)
        eventually(lambda: len(gate.crowd()) == 2)
        eventually(lambda: server.get("/stats")["waiting"] == 2)
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: "Shutting down" in server.log)
        assert not any(answer.done() for answer in answers)
        gate.open()
        assert len({answer.result(SECONDS)["session"] for answer in answers}) == 2
    eventually(lambda: not postgresql.sessions())
