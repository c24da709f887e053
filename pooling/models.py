"""Unmanaged model that provides the admin's entry and the permissions."""

from __future__ import annotations

from django.db import models


class ConnectionPool(models.Model):
    """A pool, identified by its name. It has no table: pools exist in processes only.

    It provides the permissions `pooling.view_connectionpool` and
    `pooling.change_connectionpool`, the entry in the admin's index, and the content type of the
    entries in the admin's log.
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
