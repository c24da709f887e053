"""SQLite with a file for each tenant."""

from __future__ import annotations

from typing import Any

from pooling.backends.sqlite3 import base
from tests.soak.tenants import TENANT


class DatabaseWrapper(base.DatabaseWrapper):
    """Open the file of the present tenant."""

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        return {**params, "database": f"{params['database']}-{TENANT.get()}"}
