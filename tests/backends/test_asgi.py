"""Requests through Django's ASGI handler, in a process of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.databases import eventually

if TYPE_CHECKING:
    from tests.support.databases import Database
    from tests.support.projects import Project

URLS = """
import threading
from asgiref.sync import sync_to_async
from django.db import connection
from django.http import JsonResponse
from django.urls import path
from things.models import Thing

threads = set()

def sync_view(request):
    threads.add(threading.current_thread())
    return JsonResponse({"things": Thing.objects.count()})

async def async_view(request):
    return JsonResponse({"things": await Thing.objects.acount()})

def query():
    threads.add(threading.current_thread())
    return Thing.objects.count()

async def executor_view(request):
    return JsonResponse({"things": await sync_to_async(query, thread_sensitive=False)()})

def releasing_query():
    try:
        return query()
    finally:
        connection.close()

async def releasing_view(request):
    return JsonResponse({"things": await sync_to_async(releasing_query, thread_sensitive=False)()})

urlpatterns = [
    path("sync", sync_view), path("async", async_view),
    path("executor", executor_view), path("releasing", releasing_view),
]
"""
SCRIPT = """
import asyncio, json, logging
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from pooling import get_pool

logging.getLogger("asyncio").setLevel("ERROR")  # under -X dev it complains of slow machines
application = get_asgi_application()

async def get(path):
    communicator = ApplicationCommunicator(application, {
        "type": "http", "http_version": "1.1", "method": "GET", "path": path, "query_string": b"",
        "headers": [(b"host", b"testserver")], "asgi": {"version": "3.0"},
    })
    await communicator.send_input({"type": "http.request"})
    start = await communicator.receive_output(30)
    await communicator.receive_output(30)
    await communicator.wait(30)
    assert start["status"] == 200, start

async def main():
    numbers = {}
    for path in ("/sync", "/async", "/releasing", "/executor"):
        for _ in range(3):
            await asyncio.gather(*[get(path) for _ in range(5)])
        stats = get_pool().stats()
        numbers[path] = {"leased": stats.leased, "size": stats.size}
    return numbers

print(json.dumps(asyncio.run(main())))
"""


def test_every_kind_of_view_over_asgi(project: Project, database: Database) -> None:
    """trap 22, scenario 34: what ends with `request_finished` gives its connection back.

    Executor threads do not end so. They keep one each, at most, and the pool's limit holds; a view
    that closes what it used there keeps none.
    """
    project.write("urls.py", URLS)
    numbers = json.loads(project.script(SCRIPT).stdout)
    for path in ("/sync", "/async", "/releasing"):
        assert numbers[path]["leased"] == 0, numbers
        assert 1 <= numbers[path]["size"] <= 10
    assert numbers["/executor"]["size"] <= 10
    eventually(lambda: not database.sessions())
