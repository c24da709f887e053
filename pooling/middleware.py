"""Middleware: Server-Timing for connections, and reads from the primary after a write."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from pooling import routers
from pooling.backends.lease_recorder import LeaseRecorder
from pooling.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponseBase


STICKY_COOKIE = "pooling_primary"
"""The cookie of a client that has just written."""


class ServerTimingMiddleware:
    """Adds `Server-Timing: pool;dur=4.2;desc="3 leases"`: milliseconds of waiting for connections.

    It covers what is below it in `MIDDLEWARE` and what runs in the request's own thread. Every
    client sees the header: add the middleware where that is wanted.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request, and add the header."""
        with LeaseRecorder() as recorder:
            response = self._get_response(request)
        leases = plural(len(recorder.leases), "lease")
        entry = f'pool;dur={recorder.waited * 1000:.3f};desc="{leases}"'
        others = response.get("Server-Timing")
        response["Server-Timing"] = f"{others}, {entry}" if others else entry
        return response


class ReadYourWritesMiddleware:
    """Lets a client read from the primary for `POOLING["stick_seconds"]` after it has written.

    With `pooling.routers.ReplicaRouter`: the answer to a request that wrote gets a signed cookie,
    and requests with it read from the primary. Under ASGI the middleware also tells the router
    where a request begins. Put it above what queries the database.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer the request; set the cookie if it has written."""
        work = routers.begin_work()
        recent = request.get_signed_cookie(
            # Signatures tell the time in whole seconds.
            STICKY_COOKIE,
            default=None,
            salt=STICKY_COOKIE,
            max_age=routers.stick_seconds() + 1,  # type: ignore[arg-type]
        )
        if recent is not None:
            routers.use_primary()
        before = dict(work.written)
        if iscoroutinefunction(self):
            return self._answer_async(request, work.written, before)
        response = self._get_response(request)
        return self._sticky(request, response, work.written != before)

    async def _answer_async(
        self, request: HttpRequest, written: dict[str, float], before: dict[str, float]
    ) -> HttpResponseBase:
        response = await self._get_response(request)
        return self._sticky(request, response, written != before)

    def _sticky(
        self, request: HttpRequest, response: HttpResponseBase, has_written: bool
    ) -> HttpResponseBase:
        if has_written and (seconds := routers.stick_seconds()):
            response.set_signed_cookie(
                STICKY_COOKIE,
                "1",
                salt=STICKY_COOKIE,
                max_age=math.ceil(seconds),
                secure=request.is_secure(),
                httponly=True,
                samesite="Lax",
            )
        return response
