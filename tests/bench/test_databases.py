"""The benchmark touches only what it made, removes all of it, and counts connections rightly."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from pooling.bench.adapters.orm import plain_entry
from pooling.bench.databases import (
    DatabaseProvider,
    MySQLProvider,
    PostgresProvider,
    SetupError,
    SimulatedProvider,
    SqliteProvider,
    distant_host,
    is_left_behind,
    is_local,
    provider_of_alias,
    temporary_alias,
    temporary_folder,
)
from pooling.bench.statements import KNOWN, BenchUser
from tests.bench.conftest import leftovers
from tests.bench.test_poolbench import poolbench
from tests.support.servers import execute, settings_from_url

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_database_leaves_nothing_behind(
    provider: DatabaseProvider, error: type[BaseException] | None
) -> None:
    aliases = dict(connections.settings)
    made = []

    def use() -> None:
        with provider.new_database() as entry:
            provider.prepare(entry)
            made.extend(leftovers(provider))
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert len(made) == 1
    assert leftovers(provider) == []
    assert connections.settings == aliases


def test_a_database_begins_with_the_known_users_and_is_cleared_of_others(
    provider: DatabaseProvider,
) -> None:
    with provider.new_database() as entry:
        provider.prepare(entry)
        with temporary_alias("bench", plain_entry(provider.vendor, entry)) as alias:
            users = BenchUser.objects.using(alias)
            assert list(users.order_by("pk").values_list("pk", flat=True)) == [*range(1, KNOWN + 1)]
            BenchUser(username="new", first_name="New", email="n@example.com").save(using=alias)
            provider.clear(entry)
            assert users.count() == KNOWN


def test_a_foreign_table_is_not_touched(sqlite_provider: SqliteProvider) -> None:
    with sqlite_provider.new_database() as entry:
        theirs = sqlite3.connect(entry["NAME"])
        theirs.execute("CREATE TABLE poolbench_user (theirs)")
        theirs.execute("INSERT INTO poolbench_user VALUES ('precious')")
        theirs.commit()
        with pytest.raises(SetupError, match="has a table poolbench_user that this run did not"):
            sqlite_provider.prepare(entry)
        assert list(theirs.execute("SELECT * FROM poolbench_user")) == [("precious",)]
        theirs.close()


def test_an_alias_of_the_project_is_not_replaced() -> None:
    with (
        pytest.raises(SetupError, match="DATABASES has an entry 'default'"),
        temporary_alias("default", {"ENGINE": "django.db.backends.sqlite3"}),
    ):
        pytest.fail("taken")


def test_a_user_who_may_not_create_databases_is_told(
    postgres_provider: PostgresProvider, postgresql_url: str
) -> None:
    execute(postgresql_url, "CREATE ROLE clerk LOGIN PASSWORD 'x'")
    try:
        entry = settings_from_url(postgresql_url, "django.db.backends.postgresql")
        provider = PostgresProvider({**entry, "USER": "clerk", "PASSWORD": "x"})
        with (
            pytest.raises(SetupError, match="could not create one: permission denied"),
            provider.new_database(),
        ):
            pytest.fail("allowed")
        provider.close()
    finally:
        execute(postgresql_url, "DROP ROLE clerk")
    assert leftovers(postgres_provider) == []


def test_a_mysql_user_who_may_not_create_databases_is_told(
    mysql_provider: MySQLProvider, mariadb_user: dict[str, str]
) -> None:
    provider = MySQLProvider({**mysql_provider.base, **mariadb_user})
    with (
        pytest.raises(SetupError, match=r"could not create one: .*Access denied for user"),
        provider.new_database(),
    ):
        pytest.fail("allowed")
    provider.close()


@pytest.mark.parametrize("name", [":memory:", "file:memorydb?mode=memory&cache=shared"])
def test_a_database_in_memory_has_no_place_beside_it(name: str) -> None:
    with pytest.raises(SetupError, match="not a file"):
        SqliteProvider({"NAME": name})


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    provider = SqliteProvider({"NAME": tmp_path / "missing" / "db.sqlite3"})
    with pytest.raises(SetupError, match="missing"), provider.new_database():
        pytest.fail("made")


def test_private_files_are_in_memory_unless_tmpdir_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    assert temporary_folder(memory=tmp_path) == tmp_path
    assert temporary_folder(memory=tmp_path / "missing") != tmp_path / "missing"
    monkeypatch.setenv("TMPDIR", "/somewhere")
    assert temporary_folder(memory=tmp_path) != tmp_path


@pytest.mark.parametrize("alias", ["default", "postgresql"])
def test_an_alias_gives_its_server_and_not_its_database(alias: str) -> None:
    with provider_of_alias(alias) as provider, provider.new_database() as entry:
        assert entry["NAME"] != connections.settings[alias]["NAME"]
        assert entry["HOST"] == connections.settings[alias]["HOST"]


def test_an_unknown_alias_is_an_error_with_the_choices() -> None:
    with (
        pytest.raises(SetupError, match="no database 'shop' in DATABASES; choose from 'default', "),
        provider_of_alias("shop"),
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
        ({"ENGINE": "pooling.backends.mysql", "HOST": ""}, {"PGHOST": "db"}, ""),
        ({"ENGINE": "pooling.backends.mysql", "HOST": "db"}, {}, "db"),
        (
            {"ENGINE": "pooling.backends.mysql", "OPTIONS": {"read_default_file": "my.cnf"}},
            {},
            "option file my.cnf",
        ),
    ],
)
def test_finds_the_server_as_libpq_does(
    entry: dict[str, Any], environment: dict[str, str], distant: str
) -> None:
    assert distant_host(entry, environment) == distant


def test_arenas_say_what_they_are(provider: DatabaseProvider) -> None:
    found = provider.describe()
    assert found["version"][0].isdigit()
    setting = "journal_mode" if provider.vendor == "sqlite" else "max_connections"
    assert setting in found
    assert SimulatedProvider().describe() == {}
    assert leftovers(provider) == []


def test_the_server_counts_connections_and_sees_those_that_are_open_together(
    postgres_provider: PostgresProvider,
) -> None:
    together, over = threading.Barrier(3), threading.Event()

    def hold() -> None:
        connections[alias].ensure_connection()
        together.wait(10)
        over.wait(10)
        connections[alias].close()

    with postgres_provider.new_database() as entry:
        postgres_provider.prepare(entry)
        counter = postgres_provider.connection_counter(entry)
        with temporary_alias("bench", plain_entry("postgresql", entry)) as alias:
            counter.begin()
            for _ in range(3):
                connections[alias].ensure_connection()
                connections[alias].close()
            threads = [threading.Thread(target=hold) for _ in range(2)]
            for thread in threads:
                thread.start()
            together.wait(10)
            counter.sample()
            over.set()
            for thread in threads:
                thread.join()
        found = counter.end()
        assert found.opened == 5
        # One of the first three may still have been on its adapter out.
        assert found.peak in (2, 3)
        counter.begin()
        assert counter.end().opened == 0


# ---- what a killed run has left ------------------------------------------------------------------


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_database_says_by_which_run_it_was_made(postgres_provider: PostgresProvider) -> None:
    with postgres_provider.new_database() as entry:
        [[mark]] = postgres_provider.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            entry["NAME"],
        )
        found = f"poolbench on {platform.node()}, process {os.getpid()}, "
        assert mark.startswith(found)
        assert entry["NAME"] not in postgres_provider.left_behind()


@pytest.mark.parametrize(
    ("mark", "left"),
    [
        ("poolbench on {here}, process {dead}, 2026-11-20T05:00:00+00:00", True),
        ("poolbench on {here}, process {alive}, 2026-11-20T05:00:00+00:00", False),
        ("poolbench on elsewhere, process {alive}, 2026-11-20T05:00:00+00:00", True),
        ("the precious data of somebody else", False),
    ],
)
def test_a_mark_tells_whether_the_run_is_over(mark: str, *, left: bool) -> None:
    values = {"here": platform.node(), "dead": dead_process(), "alive": os.getpid()}
    assert is_left_behind(mark.format(**values)) == left


def test_what_a_killed_run_left_on_a_server_is_reported_and_cleaned(
    postgres_provider: PostgresProvider,
) -> None:
    mark = f"poolbench on {platform.node()}, process {dead_process()}, 2026-11-20T05:00:00+00:00"
    postgres_provider.execute("CREATE DATABASE poolbench_killed")
    postgres_provider.execute(f"COMMENT ON DATABASE poolbench_killed IS '{mark}'")
    small = ("--rounds=1", "--iterations=1", "--workload=connect", "--contender=stock")
    out, _ = poolbench(*small, "--database=postgresql")
    assert "left behind by a killed run: poolbench_killed" in out.replace("\n", " ")
    out, _ = poolbench("--database=postgresql", "--clean")
    assert out == f"removed poolbench_killed ({mark})\n"
    out, _ = poolbench("--database=postgresql", "--clean")
    assert out == "PostgreSQL: no run has left anything behind\n"


def test_what_a_killed_run_left_on_mariadb_is_reported_and_cleaned(
    mysql_provider: MySQLProvider,
) -> None:
    mark = f"poolbench on {platform.node()}, process {dead_process()}, 2026-11-20T05:00:00+00:00"
    mysql_provider.execute("CREATE DATABASE poolbench_killed")
    mysql_provider.execute(f"CREATE TABLE poolbench_killed.poolbench_run (id int) COMMENT '{mark}'")
    mysql_provider.execute("CREATE DATABASE poolbench_precious")
    with temporary_alias("maria", mysql_provider.base):
        out, _ = poolbench("--database=maria", "--clean")
        assert out == f"removed poolbench_killed ({mark})\n"
        out, _ = poolbench("--database=maria", "--clean")
        assert out == "MySQL: no run has left anything behind\n"
    mysql_provider.execute("DROP DATABASE poolbench_precious")  # it is still there


def test_what_a_killed_run_left_beside_a_file_is_reported_and_cleaned(
    sqlite_provider: SqliteProvider, tmp_path: Path
) -> None:
    folder = tmp_path / f"poolbench-{dead_process()}-x"
    folder.mkdir()
    (folder / "poolbench.sqlite3").touch()
    (tmp_path / "poolbench-notes-x").mkdir()
    with sqlite_provider.new_database():
        assert list(sqlite_provider.left_behind()) == [str(folder)]
    sqlite_provider.remove(str(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["poolbench-notes-x"]
