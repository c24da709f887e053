"""A short soak; `make soak` is the long one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.soak.mysql import MysqlStress
from tests.soak.postgresql import PostgresStress
from tests.soak.processes import run
from tests.soak.sqlite import SqliteStress
from tests.support.mariadb import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import DatabaseSettings

pytestmark = pytest.mark.serial

SEED = 1
SECONDS = 8.0


@pytest.fixture(autouse=True)
def _allow_databases(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


def test_a_pool_on_postgresql_loses_nothing_under_stress() -> None:
    """Scenarios 7, 9, 10, 21, 22, 29, 32, 48, 68 and 70 all at once."""
    with PostgresStress(SEED, print) as stress:
        assert stress.run(SECONDS) == []
        counts = stress.monitor.counts
    assert counts["query"] > 10
    assert counts["comparisons"] > 1
    assert counts["use_tenants"] > 1
    assert counts["comparisons of slots"] > 10
    assert counts["look_at_slot"] > 1
    assert counts["unlocked slots"] > 1
    assert counts["leases of rivals"] > 10
    assert counts["reads from the replica"] > 1
    assert counts["read_own_write"] > 1
    assert counts["transfer"] > 1


def test_a_pool_on_mariadb_loses_nothing_under_stress() -> None:
    if reason := missing():
        pytest.skip(reason)
    with MysqlStress(SEED, print) as stress:
        assert stress.run(SECONDS / 2) == []
        counts = stress.monitor.counts
    assert counts["query"] > 10
    assert counts["comparisons"] > 1
    assert counts["use_tenants"] > 1


def test_a_pool_on_sqlite_loses_nothing_under_stress(tmp_path: Path) -> None:
    with SqliteStress(SEED, print, tmp_path) as stress:
        assert stress.run(SECONDS / 2) == []
        counts = stress.monitor.counts
    assert counts["query"] > 10
    assert counts["use_tenants"] > 1


@pytest.mark.parametrize("engine", ["postgresql", "sqlite3"])
def test_short_processes_end_without_a_crash(
    database_settings: DatabaseSettings, engine: str
) -> None:
    """Item 5: `python -m tests.soak.processes 1000` runs more of them, on any Python."""
    entry = database_settings(f"pooling.backends.{engine}")
    assert run(2, entry, python=sys.executable, jobs=2) == []
