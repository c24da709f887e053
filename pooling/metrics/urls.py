"""URLs of the metrics and of the readiness, included by `pooling.urls`."""

from __future__ import annotations

from django.urls import path

from pooling.metrics.readiness import ready
from pooling.metrics.views import metrics, metrics_json

urlpatterns = [
    path("metrics", metrics, name="pooling-metrics"),
    path("metrics.json", metrics_json, name="pooling-metrics-json"),
    path("ready", ready, name="pooling-ready"),
]
