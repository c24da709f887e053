"""The page "Connection pools" in Django's admin."""

from __future__ import annotations

from pooling.admin.revocation import connect_signals
from pooling.admin.views import ConnectionPoolAdmin

__all__ = ["ConnectionPoolAdmin"]

connect_signals()
