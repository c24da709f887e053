"""A short soak; `make soak` is the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.soak.storm import PostgresStorm, SqliteStorm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.serial

SEED = 1
SECONDS = 8.0


@pytest.fixture(autouse=True)
def _allow_databases(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


def test_a_pool_on_postgresql_survives_bad_weather() -> None:
    """Scenarios 7, 9, 10, 21, 22, 29, 32 and 48 all at once."""
    with PostgresStorm(SEED, print) as storm:
        assert storm.run(SECONDS) == []
        assert storm.watch.counts["query"] > 10
        assert storm.watch.counts["comparisons"] > 1


def test_a_pool_on_sqlite_survives_bad_weather(tmp_path: Path) -> None:
    with SqliteStorm(SEED, print, tmp_path) as storm:
        assert storm.run(SECONDS / 2) == []
        assert storm.watch.counts["query"] > 10
