"""Middleware that tells the browser's developer tools how long a request waited for connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooling.backends.lease_recorder import LeaseRecorder
from pooling.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponseBase


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
