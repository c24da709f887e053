"""Addresses for a project to include: `path("pooling/", include("pooling.urls"))`.

The page of the pools needs none of them: it is in the admin.
"""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("", include("pooling.metrics.urls"))]
