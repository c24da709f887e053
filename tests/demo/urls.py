"""The project's addresses, its static files, and views that use the pool in typical ways."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.db import connection
from django.http import HttpResponse
from django.urls import path

from pooling import get_pool
from poolproject.urls import urlpatterns as project_urls

if TYPE_CHECKING:
    from django.http import HttpRequest

_leaked: list[object] = []


def query(request: HttpRequest, milliseconds: int) -> HttpResponse:
    """Keep the server busy for some time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [milliseconds / 1000])
    return HttpResponse("done")


def report(request: HttpRequest, number: int) -> HttpResponse:
    """Hold a connection while Python works."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    time.sleep(1.0)
    return HttpResponse("done")


def leak(request: HttpRequest) -> HttpResponse:
    """Take a connection and forget to give it back, for 20 s."""
    lease = get_pool().acquire(note=f"{request.method} {request.path}")
    _leaked.append(lease)
    threading.Timer(20.0, lease.release).start()
    return HttpResponse("leaked")


urlpatterns = [
    *project_urls,
    *staticfiles_urlpatterns(),
    path("demo/query/<int:milliseconds>/", query),
    path("demo/report/<int:number>/", report),
    path("demo/leak/", leak),
]
