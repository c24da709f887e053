"""The benchmark touches only what it made, removes all of it, and counts connections rightly."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from django.db import connections

import pooling
from pooling.bench import waiting
from pooling.bench.arenas import (
    Arena,
    ArenaError,
    PostgresArena,
    SqliteArena,
    create_table,
    temporary_alias,
)
from pooling.bench.contenders import CONTENDERS, POOLED, STOCK
from pooling.bench.sessions import arena_of_alias
from pooling.bench.workloads import BenchUser
from tests.bench.conftest import leftovers
from tests.servers import execute, settings_from_url

if TYPE_CHECKING:
    from pathlib import Path

    from pooling.bench.contenders import Contender


def query(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_side_leaves_nothing_behind(
    arena: Arena, contender: Contender, error: type[BaseException] | None
) -> None:
    aliases = dict(connections.settings)
    made = []

    def use() -> None:
        with arena.open_side(contender, pool_size=2) as side:
            made.extend(leftovers(arena))
            assert side.alias in connections.settings
            query(side.alias)  # and leave the connection open
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert len(made) == 1
    assert leftovers(arena) == []
    assert connections.settings == aliases


def test_a_side_begins_with_an_empty_table(arena: Arena) -> None:
    with arena.open_side(STOCK, pool_size=1) as side:
        assert not BenchUser.objects.using(side.alias).exists()


def test_a_foreign_table_is_not_touched(sqlite_arena: SqliteArena) -> None:
    with sqlite_arena.new_database() as entry:
        theirs = sqlite3.connect(entry["NAME"])
        theirs.execute("CREATE TABLE poolbench_user (theirs)")
        theirs.execute("INSERT INTO poolbench_user VALUES ('precious')")
        theirs.commit()
        settings = STOCK.settings("sqlite", entry)
        with (
            temporary_alias("bench", settings) as alias,
            pytest.raises(ArenaError, match="has a table poolbench_user that this run did not"),
        ):
            create_table(alias)
        assert list(theirs.execute("SELECT * FROM poolbench_user")) == [("precious",)]
        theirs.close()


def test_an_alias_of_the_project_is_not_replaced() -> None:
    with (
        pytest.raises(ArenaError, match="DATABASES has an entry 'default'"),
        temporary_alias("default", {"ENGINE": "django.db.backends.sqlite3"}),
    ):
        pytest.fail("taken")


def test_a_user_who_may_not_create_databases_is_told(
    postgres_arena: PostgresArena, postgresql_url: str
) -> None:
    execute(postgresql_url, "CREATE ROLE clerk LOGIN PASSWORD 'x'")
    try:
        entry = settings_from_url(postgresql_url, "django.db.backends.postgresql")
        arena = PostgresArena({**entry, "USER": "clerk", "PASSWORD": "x"})
        with (
            pytest.raises(ArenaError, match="could not create one: permission denied"),
            arena.new_database(),
        ):
            pytest.fail("allowed")
        arena.close()
    finally:
        execute(postgresql_url, "DROP ROLE clerk")
    assert leftovers(postgres_arena) == []


@pytest.mark.parametrize("name", [":memory:", "file:memorydb?mode=memory&cache=shared"])
def test_a_database_in_memory_has_no_place_beside_it(name: str) -> None:
    with pytest.raises(ArenaError, match="not a file"):
        SqliteArena({"NAME": name})


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    arena = SqliteArena({"NAME": tmp_path / "missing" / "db.sqlite3"})
    with pytest.raises(ArenaError, match="missing"), arena.new_database():
        pytest.fail("made")


@pytest.mark.parametrize("alias", ["default", "postgresql"])
def test_an_alias_gives_its_server_and_not_its_database(alias: str) -> None:
    with arena_of_alias(alias) as arena, arena.new_database() as entry:
        assert entry["NAME"] != connections.settings[alias]["NAME"]
        assert entry["HOST"] == connections.settings[alias]["HOST"]


def test_an_unknown_alias_is_an_error_with_the_choices() -> None:
    with (
        pytest.raises(ArenaError, match="no database 'shop' in DATABASES; choose from 'default', "),
        arena_of_alias("shop"),
    ):
        pytest.fail("found")


def test_counts_each_of_the_stock_backends_connections(arena: Arena) -> None:
    with arena.open_side(STOCK, pool_size=2) as side, side.census.turn():
        for _ in range(7):
            query(side.alias)
            connections[side.alias].close()
    assert side.census.opened == 7
    assert side.census.peak >= 1


def test_counts_the_pools_connections_and_not_its_leases(arena: Arena) -> None:
    with arena.open_side(POOLED, pool_size=2) as side, side.census.turn():
        for _ in range(7):
            query(side.alias)
            connections[side.alias].close()
    assert side.census.opened == 1
    assert side.census.peak == 1


def test_a_file_stays_until_the_last_connection_is_closed(
    sqlite_arena: SqliteArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close_late(_seconds: float) -> None:
        assert len(leftovers(sqlite_arena)) == 1
        late.close()

    with sqlite_arena.open_side(STOCK, pool_size=1) as side:
        query(side.alias)
        # As a pool does that closes in a thread of its own: Django thinks it is closed.
        late, connections[side.alias].connection = connections[side.alias].connection, None
        monkeypatch.setattr(waiting.time, "sleep", close_late)
    assert leftovers(sqlite_arena) == []


def test_a_pool_is_ended_when_what_it_was_opening_is_gone_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Mock()
    pool.stats.side_effect = [Mock(size=1), Mock(size=1), Mock(size=0)]
    monkeypatch.setattr(pooling, "get_pool", {"alias": pool}.__getitem__)
    monkeypatch.setattr(waiting.time, "sleep", lambda _: pool.close.assert_called_once())
    POOLED.end("alias")
    assert pool.stats.call_count == 3


def test_sees_connections_that_are_open_at_the_same_time(arena: Arena) -> None:
    together = threading.Barrier(3)

    def hold() -> None:
        query(side.alias)
        together.wait(10)
        # Nobody leaves before the end of the turn's last look.
        over.wait(10)
        connections[side.alias].close()

    over = threading.Event()
    with arena.open_side(STOCK, pool_size=2) as side:
        threads = [threading.Thread(target=hold) for _ in range(2)]
        with side.census.turn():
            for thread in threads:
                thread.start()
            together.wait(10)
        over.set()
        for thread in threads:
            thread.join()
    assert side.census.opened == 2
    assert side.census.peak == 2
