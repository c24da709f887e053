"""The page of the connection pools in Django's admin."""

from __future__ import annotations

from pooling.admin.page import ConnectionPoolAdmin

__all__ = ["ConnectionPoolAdmin"]
