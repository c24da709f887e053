"""No data: only what gives the admin an entry and its permissions."""

from __future__ import annotations

from django.db import models


class ConnectionPool(models.Model):
    """A pool, by its name. There is no table: pools live in processes.

    What exists because of it: `pooling.view_connectionpool`, `pooling.change_connectionpool`, an
    entry in the admin's index, and something that the admin's log can refer to.
    """

    name = models.CharField(max_length=200, primary_key=True)

    class Meta:
        managed = False
        default_permissions = ("view", "change")
        verbose_name = "connection pool"
        verbose_name_plural = "connection pools"

    def __str__(self) -> str:
        """Return the pool's name."""
        return self.name
