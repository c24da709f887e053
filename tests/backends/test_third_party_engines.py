"""Backends of other packages, pooled in three lines: docs/engines.md has the example."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

import pytest

from pooling.backends.postgresql.base import DatabaseWrapper as PooledDatabaseWrapper

if TYPE_CHECKING:
    from tests.support.databases import PostgresDatabase


def test_the_wrapper_of_django_prometheus_is_pooled(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = pytest.importorskip(
        "django_prometheus.db.backends.postgresql.base", reason="pip install django-prometheus"
    )
    from django_prometheus.db import metrics

    module = types.ModuleType("pooled_prometheus.base")
    module.DatabaseWrapper = type(
        "DatabaseWrapper",
        (PooledDatabaseWrapper, theirs.DatabaseWrapper),
        {"__module__": "pooled_prometheus.base"},
    )
    package = types.ModuleType("pooled_prometheus")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "pooled_prometheus", package)
    monkeypatch.setitem(sys.modules, "pooled_prometheus.base", module)
    wrapper = postgresql.wrapper(ENGINE="pooled_prometheus")
    executed = metrics.execute_total.labels("default", wrapper.vendor)._value
    before = executed.get()

    session = postgresql.session(wrapper)
    wrapper.close()

    assert postgresql.session(wrapper) == session
    assert wrapper.resolve_pool().stats().connects == 1
    assert executed.get() >= before + 2
