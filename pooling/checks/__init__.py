"""System checks of the settings; `docs/checks.md` documents each id."""

from __future__ import annotations

from django.core import checks

from pooling.checks.options import check_pools, check_setting
from pooling.checks.server import check_servers
from pooling.checks.threads import check_threads

__all__ = ["check_pools", "check_servers", "check_setting", "check_threads", "register"]


def register() -> None:
    """Register all checks with Django."""
    checks.register(check_pools)
    checks.register(check_setting)
    checks.register(check_threads)
    checks.register(check_servers, checks.Tags.database)
