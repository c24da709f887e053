"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class PoolingConfig(AppConfig):
    """Adds the commands and the system checks; the backends work without being installed."""

    name = "pooling"
    verbose_name = "Connection pools"

    def ready(self) -> None:
        """Register the system checks. Opens no connection."""
        from pooling.checks import check_pools

        checks.register(check_pools)
