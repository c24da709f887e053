"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class PoolingConfig(AppConfig):
    """Adds commands, system checks and the admin page; the backends work without it."""

    name = "pooling"
    verbose_name = "Connection pools"

    def ready(self) -> None:
        """Register the checks, the activity receivers and the publisher. Opens no connection."""
        from pooling import activity, checks
        from pooling.core.scheduler import SCHEDULER
        from pooling.fleet.publisher import PUBLISHER

        checks.register()
        activity.connect_signals()
        SCHEDULER.add_periodic(PUBLISHER)
