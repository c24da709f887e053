"""Engines whose parameters depend on the caller: the tenant is in a context variable."""

from __future__ import annotations

from contextvars import ContextVar

TENANTS = ("one", "two", "three")
TENANT: ContextVar[str] = ContextVar("TENANT", default=TENANTS[0])
"""The tenant whose database the present context uses."""
