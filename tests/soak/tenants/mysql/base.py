"""MariaDB with a database for each tenant."""

from __future__ import annotations

from typing import Any

from pooling.backends.mysql import base
from tests.soak.tenants import TENANT


class DatabaseWrapper(base.DatabaseWrapper):
    """Connect to the database of the present tenant."""

    def get_connection_params(self) -> dict[str, Any]:
        return {**super().get_connection_params(), "database": f"tenant_{TENANT.get()}"}
