"""The project's addresses, and one that keeps a connection as long as the test wants."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from django.db import connection
from django.http import HttpResponse
from django.urls import path

from poolproject.urls import urlpatterns as project_urls

if TYPE_CHECKING:
    from django.http import HttpRequest

let_go = threading.Event()


def hold(request: HttpRequest, number: int) -> HttpResponse:
    """Answer when `let_go` is set."""
    connection.ensure_connection()
    let_go.wait(120)
    return HttpResponse("done")


urlpatterns = [*project_urls, path("hold/<int:number>/", hold)]
