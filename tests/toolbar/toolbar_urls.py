"""The same views, and the toolbar's own addresses."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("tests.toolbar.urls")),
    path("__debug__/", include("debug_toolbar.urls")),
]
