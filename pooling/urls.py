"""URLs to include in a project: `path("pooling/", include("pooling.urls"))`.

The page of the pools does not need them: it belongs to the admin.
"""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("", include("pooling.metrics.urls"))]
