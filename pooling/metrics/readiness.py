"""Readiness of this process: 503 while a server is known to be down. Opens no connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpResponseForbidden, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from pooling.backends.driver import driver_of
from pooling.metrics.access import may_read
from pooling.registry import REGISTRY

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

KNOWN_FOR = 30.0
"""Seconds after the last failed attempt to connect for which a server counts as down. A pool with
`min_size=0` makes none without callers, so its process has to get some again."""


def servers_down() -> dict[str, float]:
    """Return for how many seconds the servers of this process's pools are known to be down.

    By the name of the pool. Replicas of `pooling.routers` are left out: reads go elsewhere.
    """
    options = getattr(settings, "POOLING", None)
    groups = options.get("replicas") if isinstance(options, Mapping) else None
    values = groups.values() if isinstance(groups, Mapping) else ()
    replicas = {alias for each in values for alias in each}
    down = {}
    for pool in REGISTRY.pools():
        driver = driver_of(pool)
        if driver is not None and driver.aliases <= replicas:
            continue
        stats = pool.stats()
        age = stats.last_error_age
        if stats.outage is not None and age is not None and age <= KNOWN_FOR:
            down[stats.name] = round(stats.outage.seconds, 1)
    return down


# Otherwise LoginRequiredMiddleware would redirect a load balancer, and ATOMIC_REQUESTS would
# connect for a transaction.
@login_not_required
@transaction.non_atomic_requests
@never_cache
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Tell whether requests that need the database may be sent to this process."""
    if not may_read(request):
        return HttpResponseForbidden("403 Forbidden\n", content_type="text/plain; charset=utf-8")
    down = servers_down()
    response = JsonResponse({"ready": not down, "down": down}, status=503 if down else 200)
    # Django would log each answer as an error, and mail it to the administrators.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001
    return response
