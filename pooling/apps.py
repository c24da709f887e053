"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class PoolingConfig(AppConfig):
    """Adds the commands and the system checks; the backends work without being installed."""

    name = "pooling"
    verbose_name = "Connection pools"

    def ready(self) -> None:
        """Begin to watch: checks, activities, publishing. Opens no connection."""
        from pooling import activity, checks
        from pooling.core.scheduler import SCHEDULER
        from pooling.fleet.publisher import PUBLISHER

        checks.register()
        activity.watch()
        SCHEDULER.add_periodic(PUBLISHER)
