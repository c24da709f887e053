"""Views of the metrics; `pooling.metrics.access` restricts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse, HttpResponseForbidden, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from pooling import fleet
from pooling.fleet.aggregate import with_states
from pooling.metrics.access import may_read
from pooling.metrics.exposition import OPENMETRICS, PROMETHEUS, render
from pooling.metrics.families import families

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest

POOL_KEYS = (
    *("id", "name", "aliases", "vendor", "database", "host", "port", "user", "options", "stats"),
    "state",
)
"""Keys of a pool in the JSON. Holders are left out: the admin's page shows them."""


# Otherwise LoginRequiredMiddleware would redirect a scraper; the views check access themselves.
@login_not_required
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics of all processes as OpenMetrics or Prometheus text."""
    if not may_read(request):
        return _denied()
    openmetrics = "application/openmetrics-text" in request.headers.get("Accept", "")
    return HttpResponse(
        render(families(fleet.processes()), openmetrics=openmetrics),
        content_type=OPENMETRICS if openmetrics else PROMETHEUS,
    )


@login_not_required
@never_cache
@require_safe
def metrics_json(request: HttpRequest) -> HttpResponse:
    """Return the statistics of all processes as JSON."""
    if not may_read(request):
        return _denied()
    seen = fleet.read_all()
    return JsonResponse(
        {
            "alone": seen.isolation_reason,
            "problem": seen.problem,
            "processes": [_statistics(process) for process in with_states(seen.processes)],
        }
    )


def _statistics(process: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: process[key] for key in ("host", "pid", "command", "started", "age", "silent")}
    return {**known, "pools": [{key: pool[key] for key in POOL_KEYS} for pool in process["pools"]]}


def _denied() -> HttpResponse:
    return HttpResponseForbidden("403 Forbidden\n", content_type="text/plain; charset=utf-8")
