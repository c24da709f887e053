"""The benchmark touches only what it made, removes all of it, and counts connections rightly."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from pooling.bench.databases import (
    Arena,
    ArenaError,
    PostgresArena,
    SimulatedArena,
    SqliteArena,
    create_table,
    temporary_alias,
    temporary_folder,
)
from pooling.bench.places import arena_of_alias, distant_host, is_local
from pooling.bench.users import KNOWN, BenchUser
from pooling.bench.adapters.orm import plain_entry
from tests.bench.conftest import leftovers
from tests.servers import execute, settings_from_url

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_database_leaves_nothing_behind(arena: Arena, error: type[BaseException] | None) -> None:
    aliases = dict(connections.settings)
    made = []

    def use() -> None:
        with arena.new_database() as entry:
            arena.prepare(entry)
            made.extend(leftovers(arena))
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


def test_a_database_begins_with_the_known_users_and_is_cleared_of_others(arena: Arena) -> None:
    with arena.new_database() as entry:
        arena.prepare(entry)
        with temporary_alias("bench", plain_entry(arena.vendor, entry)) as alias:
            users = BenchUser.objects.using(alias)
            assert list(users.order_by("pk").values_list("pk", flat=True)) == [*range(1, KNOWN + 1)]
            BenchUser(username="new", first_name="New", email="n@example.com").save(using=alias)
            arena.clear(entry)
            assert users.count() == KNOWN


def test_a_foreign_table_is_not_touched(sqlite_arena: SqliteArena) -> None:
    with sqlite_arena.new_database() as entry:
        theirs = sqlite3.connect(entry["NAME"])
        theirs.execute("CREATE TABLE poolbench_user (theirs)")
        theirs.execute("INSERT INTO poolbench_user VALUES ('precious')")
        theirs.commit()
        with (
            temporary_alias("bench", plain_entry("sqlite", entry)) as alias,
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


def test_private_files_are_in_memory_unless_somebody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    assert temporary_folder(memory=tmp_path) == tmp_path
    assert temporary_folder(memory=tmp_path / "missing") != tmp_path / "missing"
    monkeypatch.setenv("TMPDIR", "/somewhere")
    assert temporary_folder(memory=tmp_path) != tmp_path


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


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *[(host, True) for host in ("", "localhost", "127.0.0.1", "127.9.9.9", "::1", "/run/pg")],
        *[(host, False) for host in ("db", "db.example.com", "10.0.0.7", "localhost.example.com")],
    ],
)
def test_knows_this_machine(host: str, local: bool) -> None:
    assert is_local(host) is local


@pytest.mark.parametrize(
    ("entry", "environment", "distant"),
    [
        ({"HOST": ""}, {}, ""),
        ({"HOST": "/run/postgresql"}, {"PGHOST": "db"}, ""),
        ({"HOST": ""}, {"PGHOST": "db"}, "db"),
        ({"HOST": "localhost,db2,db3"}, {}, "db2, db3"),
        ({"HOST": "", "OPTIONS": {"host": "db"}}, {}, "db"),
        ({"HOST": "localhost", "OPTIONS": {"hostaddr": "10.0.0.7"}}, {}, "10.0.0.7"),
        ({"HOST": "", "OPTIONS": {"service": "shop"}}, {}, "service shop"),
        ({"ENGINE": "pooling.backends.sqlite3", "NAME": "x"}, {"PGHOST": "db"}, ""),
    ],
)
def test_finds_out_who_the_server_is_as_libpq_does(
    entry: dict[str, Any], environment: dict[str, str], distant: str
) -> None:
    assert distant_host(entry, environment) == distant


def test_arenas_say_what_they_are(arena: Arena) -> None:
    found = arena.describe()
    assert found["version"][0].isdigit()
    assert {"sqlite": "journal_mode", "postgresql": "max_connections"}[arena.vendor] in found
    assert SimulatedArena().describe() == {}
    assert leftovers(arena) == []


def test_the_server_counts_connections_and_sees_those_that_are_open_together(
    postgres_arena: PostgresArena,
) -> None:
    together, over = threading.Barrier(3), threading.Event()

    def hold() -> None:
        connections[alias].ensure_connection()
        together.wait(10)
        over.wait(10)
        connections[alias].close()

    with postgres_arena.new_database() as entry:
        postgres_arena.prepare(entry)
        census = postgres_arena.census_of(entry)
        with temporary_alias("bench", plain_entry("postgresql", entry)) as alias:
            census.begin()
            for _ in range(3):
                connections[alias].ensure_connection()
                connections[alias].close()
            threads = [threading.Thread(target=hold) for _ in range(2)]
            with census.turn():
                for thread in threads:
                    thread.start()
                together.wait(10)
            over.set()
            for thread in threads:
                thread.join()
        found = census.end()
        assert found.opened == 5
        # One of the first three may still have been on its way out.
        assert found.peak in (2, 3)
        census.begin()
        assert census.end().opened == 0
