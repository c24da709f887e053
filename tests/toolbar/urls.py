"""Views that use the database "pooled"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import HttpResponse
from django.urls import path

if TYPE_CHECKING:
    from django.http import HttpRequest


def query(_request: HttpRequest) -> HttpResponse:
    """Ask the database twice, with other work in between, and keep its session at last."""
    for _ in range(2):
        with transaction.atomic("pooled"), connections["pooled"].cursor() as cursor:
            cursor.execute("SELECT 1")
    connections["pooled"].ensure_connection()
    return HttpResponse("<html><body>answered</body></html>")


async def answer(request: HttpRequest) -> HttpResponse:
    """Ask the database from an asynchronous view."""
    return await sync_to_async(query)(request)


urlpatterns = [
    path("query/", query),
    path("answer/", answer),
]
