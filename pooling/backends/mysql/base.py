"""The pooled backend for MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.backends.mysql import base

from pooling.backends.base import PooledDatabaseWrapper
from pooling.backends.identity import frozen
from pooling.backends.mysql.creation import DatabaseCreation
from pooling.backends.mysql.driver import MySQLDriver
from pooling.backends.mysql.features import DatabaseFeatures

if TYPE_CHECKING:
    from collections.abc import Hashable


class DatabaseWrapper(PooledDatabaseWrapper, base.DatabaseWrapper):
    """Django's MySQL wrapper, leasing its connections from a pool."""

    driver_class = MySQLDriver
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures
    credential_params = ("password", "passwd")

    def session_identity(self, params: dict[str, Any]) -> Hashable:
        """Return the parameters, and the isolation level that Django sets after connecting."""
        identifying = {
            key: value for key, value in params.items() if key not in self.credential_params
        }
        if identifying.get("conv") is base.django_conversions:
            del identifying["conv"]
        return frozen({**identifying, "isolation_level": self.isolation_level})
