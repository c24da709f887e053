"""A view of the demo project that shows what `scope="transaction"` is for."""

import time

from django.contrib.auth import get_user_model
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache

SECONDS = 0.2
"""What another service takes, such as one for payments."""


@never_cache
def think(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - a view
    """Read, wait as for another service, and write: what poolbench's workload `think` does."""
    users = get_user_model().objects
    count = users.count()
    time.sleep(SECONDS)
    first = users.order_by("pk").values_list("pk", flat=True).first()
    users.filter(pk=first).update(date_joined=F("date_joined"))
    return JsonResponse({"users": count})
