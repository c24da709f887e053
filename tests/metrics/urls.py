"""A project that has the addresses of the pools."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("pooling/", include("pooling.urls"))]
