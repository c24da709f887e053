"""Views that tell what the pool thinks they are doing."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

from pooling import activity


def here(request: HttpRequest, **_: object) -> JsonResponse:
    return JsonResponse({"current": activity.current()})


async def there(request: HttpRequest) -> JsonResponse:
    in_thread = await sync_to_async(activity.current)()
    return JsonResponse({"current": activity.current(), "in_thread": in_thread})


def slowly(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(str(activity.current()) for _ in range(1))


urlpatterns = [
    path("async/", there),
    path("stream/", slowly),
    path("<path:rest>", here),
]
