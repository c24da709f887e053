"""The pooled backend for MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.db.backends.mysql import base

from pooling.backends.base import PooledDatabaseWrapper
from pooling.backends.creation import PooledDatabaseCreation
from pooling.backends.features import PooledFeatures
from pooling.backends.identity import frozen
from pooling.backends.mysql.driver import MySQLDriver

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping


if TYPE_CHECKING:
    _Wrapper = base.DatabaseWrapper
else:
    _Wrapper = object


class PooledMySQL(PooledDatabaseWrapper, _Wrapper):
    """Mixed into a MySQL wrapper, of Django's or another package, it leases connections."""

    driver_class = MySQLDriver
    mixins: ClassVar[Mapping[str, type]] = {
        "creation_class": PooledDatabaseCreation,
        "features_class": PooledFeatures,
    }
    credential_params = ("password", "passwd")

    def session_identity(self, params: dict[str, Any]) -> Hashable:
        """Return the parameters, and the isolation level that Django sets after connecting."""
        identifying = {
            key: value for key, value in params.items() if key not in self.credential_params
        }
        if identifying.get("conv") is base.django_conversions:
            del identifying["conv"]
        return frozen({**identifying, "isolation_level": self.isolation_level})


class DatabaseWrapper(PooledMySQL, base.DatabaseWrapper):
    """Django's MySQL wrapper, leasing its connections from a pool."""
