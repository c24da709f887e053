"""The benchmarks make databases of their own, so their tests need none of pytest-django's."""

from __future__ import annotations

from tests.bench.conftest import database_access, postgres_provider, sqlite_provider

__all__ = ["database_access", "postgres_provider", "sqlite_provider"]
