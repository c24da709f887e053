"""What is particular to SQLite: files that go, pragmas that stay, one writer."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction

from pooling.backends.sqlite3.driver import SerialCloser
from tests.support.databases import Database, SqliteDatabase, eventually, in_thread

if TYPE_CHECKING:
    from tests.conftest import DatabaseSettings

ONE = {"pool": {"max_size": 1, "timeout": 10}}


def value(wrapper: Any, sql: str) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        return row and row[0]


def write(wrapper: Any, *statements: str) -> None:
    with wrapper.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.parametrize(
    "name", [":memory:", "file:memorydb_default?mode=memory&cache=shared", "file::memory:"]
)
def test_databases_in_memory_bypass_the_pool(
    database_settings: DatabaseSettings, name: str
) -> None:
    """trap 25: every connection to `:memory:` is a database of its own."""
    memory = SqliteDatabase(database_settings("pooling.backends.sqlite3", NAME=name))
    wrapper, other = memory.wrapper(pool=True), memory.wrapper(pool=True)
    stock = memory.stock()
    assert wrapper.resolve_pool() is None
    try:
        stock.ensure_connection()
        write(wrapper, "CREATE TABLE kept (id integer)")
        raw = wrapper.connection
        tables = value(other, "SELECT count(*) FROM sqlite_master")
        assert tables == (1 if "shared" in name else 0)
        # As with the stock backend, which never closes those it knows to be in memory.
        stock.close()
        wrapper.close()
        assert (wrapper.connection is raw) == (stock.connection is not None)
    finally:
        for each in (wrapper, other, stock):
            if each.connection is not None:
                each.connection.close()
                each.connection = None


def test_wal_holds_in_every_lease_and_leaves_no_files_behind(sqlite: SqliteDatabase) -> None:
    """trap 26: a clone is a copy of the file, so everything must be in it."""
    settings = {"OPTIONS": {"init_command": "PRAGMA journal_mode=WAL"}}
    wrapper, other = sqlite.wrapper(**settings), sqlite.wrapper(**settings)
    write(wrapper, "CREATE TABLE note (text)", "INSERT INTO note VALUES ('one')")
    assert value(other, "SELECT text FROM note") == "one"
    assert value(wrapper, "PRAGMA journal_mode") == "wal"
    wrapper.close()
    other.close()
    wal = Path(f"{sqlite.entry['NAME']}-wal")
    assert wal.exists()
    wrapper.resolve_pool().close()
    assert not wal.exists()
    assert sqlite.sessions() == []


def test_connections_are_closed_one_by_one(sqlite: SqliteDatabase) -> None:
    """trap 26: two that close at the same moment leave what is in the WAL there."""
    two_at_once = threading.Barrier(2)

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                two_at_once.wait(0.2)
                met.append(self)
            super().close()

    met: list[Connection] = []
    wrapper, other = (sqlite.wrapper(OPTIONS={"factory": Connection}) for _ in range(2))
    for each in (wrapper, other):
        each.ensure_connection()
    for each in (wrapper, other):
        each.close()
    wrapper.resolve_pool().close()
    assert sqlite.sessions() == []
    assert met == []


def test_a_connection_that_hangs_as_it_is_closed_does_not_keep_the_others() -> None:
    """Its place is given up once; those behind it do not wait for it any more."""

    class Hanging(sqlite3.Connection):
        def close(self) -> None:
            is_inside.set()
            assert may_go.wait(20)
            super().close()

    is_inside, may_go = threading.Event(), threading.Event()
    door = SerialCloser(timeout=0.05)
    first_lock = door._lock
    hanging, *others = (
        sqlite3.connect(":memory:", factory=factory, check_same_thread=False)
        for factory in (Hanging, sqlite3.Connection, sqlite3.Connection)
    )
    closing = threading.Thread(target=door.close, args=(hanging,))
    closing.start()
    try:
        assert is_inside.wait(20)
        door.close(others[0])
        assert door._lock is not first_lock
        second_lock = door._lock
        door.close(others[1])
        assert door._lock is second_lock
    finally:
        may_go.set()
        closing.join(20)
    for each in (hanging, *others):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            each.execute("SELECT 1")
    assert not first_lock.locked()
    assert not second_lock.locked()


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_clone_has_the_tables_although_connections_are_pooled(
    sqlite: SqliteDatabase, mode: str
) -> None:
    """trap 26: in WAL mode with a connection open, the clone had no tables."""
    settings = {
        "OPTIONS": {"init_command": f"PRAGMA journal_mode={mode}"},
        "TEST": {
            "NAME": sqlite.entry["NAME"],
            "MIRROR": None,
            "MIGRATE": True,
            "CHARSET": None,
            "COLLATION": None,
        },
    }
    wrapper, other = sqlite.wrapper(**settings), sqlite.wrapper(**settings)
    write(wrapper, "CREATE TABLE note (text)", "INSERT INTO note VALUES ('one')")
    assert value(other, "SELECT text FROM note") == "one"
    other.close()
    wrapper.close()
    wrapper.creation._clone_test_db("1", verbosity=0)
    clone = wrapper.creation.get_test_db_clone_settings("1")["NAME"]
    assert clone != sqlite.entry["NAME"]
    connection = sqlite3.connect(clone)
    try:
        assert connection.execute("SELECT text FROM note").fetchall() == [("one",)]
    finally:
        connection.close()


def test_a_test_database_that_is_destroyed_is_closed(sqlite: SqliteDatabase) -> None:
    """trap 26: pooled handles would go on reading a deleted inode."""
    wrapper, other = sqlite.wrapper(), sqlite.wrapper()
    write(wrapper, "CREATE TABLE note (text)")
    assert sqlite.session(other)
    other.close()
    assert len(sqlite.sessions()) == 2
    wrapper.creation._destroy_test_db(sqlite.entry["NAME"], verbosity=0)
    assert not Path(sqlite.entry["NAME"]).exists()
    assert sqlite.sessions() == []
    assert value(other, "SELECT count(*) FROM sqlite_master") == 0


def replace(path: str) -> None:
    """Put another database in the file's place, as a restored backup or `git checkout` does."""
    connection = sqlite3.connect(f"{path}.new")
    connection.execute("CREATE TABLE note AS SELECT 'new' AS text")
    connection.commit()
    connection.close()
    Path(f"{path}.new").replace(path)


def test_a_file_that_was_replaced_is_opened_anew(sqlite: SqliteDatabase) -> None:
    """trap 27: `is_usable()` is always True; an open file stays readable without its name."""
    wrapper = sqlite.wrapper(pool={"ping_after": None})
    write(wrapper, "CREATE TABLE note (text)", "INSERT INTO note VALUES ('old')")
    wrapper.close()
    replace(sqlite.entry["NAME"])
    assert value(wrapper, "SELECT text FROM note") == "new"
    write(wrapper, "INSERT INTO note VALUES ('newer')")
    wrapper.close()
    assert sqlite.execute("SELECT text FROM note") == [("new",), ("newer",)]
    assert len(sqlite.sessions()) == 1


def test_a_file_replaced_under_several_idle_connections_is_opened_anew_by_all(
    sqlite: SqliteDatabase,
) -> None:
    """trap 27: no handle of the old file is served again, nor left open."""
    wrappers = [sqlite.wrapper() for _ in range(3)]
    write(wrappers[0], "CREATE TABLE note (text)", "INSERT INTO note VALUES ('old')")
    for wrapper in wrappers[1:]:
        assert value(wrapper, "SELECT text FROM note") == "old"
    for wrapper in wrappers:
        wrapper.close()
    replace(sqlite.entry["NAME"])
    assert [value(wrapper, "SELECT text FROM note") for wrapper in wrappers] == ["new"] * 3
    eventually(lambda: len(sqlite.sessions()) == 3)


def test_a_file_that_was_deleted_is_made_anew(sqlite: SqliteDatabase) -> None:
    """trap 27: as with the stock backend, which opens the file for each request."""
    wrapper = sqlite.wrapper()
    write(wrapper, "CREATE TABLE note (text)")
    wrapper.close()
    Path(sqlite.entry["NAME"]).unlink()
    assert value(wrapper, "SELECT count(*) FROM sqlite_master") == 0
    write(wrapper, "CREATE TABLE note (text)")
    assert Path(sqlite.entry["NAME"]).stat().st_size > 0


def test_a_file_deleted_during_a_lease_is_not_read_by_the_next(sqlite: SqliteDatabase) -> None:
    """trap 27: the lease itself goes on, as it would without a pool."""
    wrapper = sqlite.wrapper(**ONE)
    write(wrapper, "CREATE TABLE note (text)")
    Path(sqlite.entry["NAME"]).unlink()
    assert value(wrapper, "SELECT count(*) FROM sqlite_master") == 1
    wrapper.close()
    assert value(wrapper, "SELECT count(*) FROM sqlite_master") == 0


def test_foreign_keys_are_enforced_again_in_the_next_lease(sqlite: SqliteDatabase) -> None:
    """trap 28: `PRAGMA foreign_keys` stays with the connection."""
    sqlite.execute(
        "CREATE TABLE one (id integer PRIMARY KEY)",
        "CREATE TABLE two (one integer REFERENCES one (id))",
    )
    wrapper, other = sqlite.wrapper(**ONE), sqlite.wrapper(**ONE)
    write(wrapper, "PRAGMA foreign_keys = OFF", "INSERT INTO two VALUES (1)")
    raw = wrapper.connection
    wrapper.close()
    assert value(other, "PRAGMA foreign_keys") == 1
    assert other.connection is raw
    with pytest.raises(IntegrityError):
        write(other, "INSERT INTO two VALUES (2)")


def test_constraint_checks_left_off_are_on_again(sqlite: SqliteDatabase) -> None:
    """trap 28: `disable_constraint_checking` and an error that skips its other half."""
    wrapper = sqlite.wrapper(**ONE)
    wrapper.ensure_connection()
    assert wrapper.disable_constraint_checking()
    assert value(wrapper, "PRAGMA foreign_keys") == 0
    wrapper.close()
    assert value(wrapper, "PRAGMA foreign_keys") == 1


def test_foreign_keys_turned_off_by_the_settings_stay_off(sqlite: SqliteDatabase) -> None:
    """trap 28: what is restored is what the session was like, not what we think of it."""
    wrapper = sqlite.wrapper(**ONE, OPTIONS={"init_command": "PRAGMA foreign_keys = OFF"})
    for _ in range(2):
        assert value(wrapper, "PRAGMA foreign_keys") == 0
        write(wrapper, "PRAGMA foreign_keys = ON")
        wrapper.close()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_attached_databases_are_detached(
    sqlite: SqliteDatabase, tmp_path: Path, in_transaction: bool
) -> None:
    """trap 28: also those with odd names, and in the middle of a transaction."""
    wrapper, other = sqlite.wrapper(**ONE), sqlite.wrapper(**ONE)
    attached = tmp_path / "attached.sqlite3"
    write(wrapper, f'ATTACH DATABASE \'{attached}\' AS "o\'dd ""name"', "CREATE TABLE note (text)")
    if in_transaction:
        write(wrapper, "BEGIN", 'CREATE TABLE "o\'dd ""name".note (text)')
    raw = wrapper.connection
    wrapper.close()
    with other.cursor() as cursor:
        assert [row[1] for row in cursor.execute("PRAGMA database_list").fetchall()] == ["main"]
    assert other.connection is raw
    attached.unlink()


def test_a_database_that_the_settings_attach_stays(sqlite: SqliteDatabase, tmp_path: Path) -> None:
    """trap 28: by way of `init_command`, which runs once per physical connection."""
    attached = tmp_path / "attached.sqlite3"
    wrapper = sqlite.wrapper(
        **ONE, OPTIONS={"init_command": f"ATTACH DATABASE '{attached}' AS other"}
    )
    for _ in range(3):
        assert value(wrapper, "SELECT count(*) FROM other.sqlite_master") == 0
        wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


def test_an_init_command_runs_once_for_a_physical_connection(sqlite: SqliteDatabase) -> None:
    """trap 14: a second time this one would fail."""
    wrapper = sqlite.wrapper(
        **ONE, OPTIONS={"init_command": "CREATE TEMPORARY TABLE mark (id); PRAGMA cache_size=77;"}
    )
    for _ in range(3):
        assert value(wrapper, "SELECT count(*) FROM mark") == 0
        assert value(wrapper, "PRAGMA cache_size") == 77
        wrapper.close()


def test_a_file_is_closed_when_an_init_command_fails(sqlite: SqliteDatabase) -> None:
    """An error is kept for a while, and in it the frame that has the connection."""
    wrapper = sqlite.wrapper(OPTIONS={"init_command": "SELECT * FROM nowhere"})
    with pytest.raises(OperationalError, match="no such table: nowhere") as caught:
        wrapper.ensure_connection()
    assert sqlite.sessions() == []
    assert caught.value.__cause__ is not None


def test_a_users_factory_gets_what_it_would_get(sqlite: SqliteDatabase) -> None:
    """A factory is a class or a function, which sees the call as it is without a pool."""
    calls: list[Any] = []

    def factory(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        calls.append((args, kwargs))
        return sqlite3.Connection(*args, **kwargs)

    for wrapper in (
        sqlite.wrapper(OPTIONS={"factory": factory}),
        sqlite.stock(OPTIONS={"factory": factory}),
    ):
        wrapper.ensure_connection()
        wrapper.close()
    pooled, stock = calls
    assert pooled == stock


def test_a_connection_that_is_always_in_a_transaction_is_always_rolled_back(
    sqlite: SqliteDatabase,
) -> None:
    """With the driver's `autocommit=False`, which Python 3.11 does not have yet, a rollback begins
    the next transaction at once."""
    sqlite.execute("CREATE TABLE note (text)")
    options = {"autocommit": False} if hasattr(sqlite3.Connection, "autocommit") else {}
    wrapper = sqlite.wrapper(**ONE, AUTOCOMMIT=False, OPTIONS=options)
    for _ in range(4):
        assert value(wrapper, "SELECT count(*) FROM note") == 0
        write(wrapper, "INSERT INTO note VALUES ('not committed')")
        wrapper.close()
        sqlite.execute("INSERT INTO note VALUES ('by another')", "DELETE FROM note")
    assert wrapper.resolve_pool().stats().connects == 1


def test_djangos_functions_are_there_in_every_lease(sqlite: SqliteDatabase) -> None:
    """trap 28: registering about fifty of them is what the pool saves."""
    wrapper = sqlite.wrapper(**ONE)
    for _ in range(3):
        assert value(wrapper, "SELECT MD5('x')") == "9dd4e461268c8034f5c8564e155c67a6"
        assert value(wrapper, "SELECT 'abc' REGEXP '^a'") == 1
        wrapper.close()


def test_a_second_writer_is_still_told_that_the_database_is_locked(
    sqlite: SqliteDatabase,
) -> None:
    """trap 29: pooling does not lift "one writer"."""
    sqlite.execute("CREATE TABLE note (text)")
    settings = {"OPTIONS": {"timeout": 0.05}}
    one, two = sqlite.wrapper(**settings), sqlite.wrapper(**settings)
    write(one, "BEGIN IMMEDIATE", "INSERT INTO note VALUES ('one')")
    with pytest.raises(OperationalError, match="database is locked"):
        write(two, "INSERT INTO note VALUES ('two')")
    two.close()
    one.close()
    write(two, "INSERT INTO note VALUES ('two')")
    assert sqlite.execute("SELECT text FROM note") == [("two",)]
    assert two.resolve_pool().stats().connects == 2


def test_the_settings_that_help_writers_work_with_a_pool(sqlite: SqliteDatabase) -> None:
    """trap 29: WAL, `transaction_mode=IMMEDIATE` and a timeout let writers queue."""
    sqlite.execute("CREATE TABLE counter AS SELECT 0 AS n")
    settings = {
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        }
    }
    with sqlite.alias("pooled", **settings):
        gate = threading.Barrier(4)

        def count() -> None:
            gate.wait(20)
            for _ in range(25):
                with transaction.atomic(using="pooled"):
                    wrapper = connections["pooled"]
                    n = value(wrapper, "SELECT n FROM counter")
                    write(wrapper, f"UPDATE counter SET n = {n + 1}")
                connections["pooled"].close()

        threads = [threading.Thread(target=in_thread, args=(count,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sqlite.execute("SELECT n FROM counter") == [(100,)]


@pytest.mark.parametrize("mode", ["DEFERRED", "IMMEDIATE", "EXCLUSIVE"])
def test_transaction_mode_is_what_begins_a_transaction(sqlite: SqliteDatabase, mode: str) -> None:
    sqlite.execute("CREATE TABLE note (text)")
    settings = {"OPTIONS": {"transaction_mode": mode, "timeout": 0.05}}
    with sqlite.alias("pooled", **settings) as wrapper, transaction.atomic(using="pooled"):
        assert wrapper.connection.in_transaction
        if mode == "DEFERRED":
            sqlite.execute("INSERT INTO note VALUES ('by another')")
        else:
            locked = sqlite3.connect(sqlite.entry["NAME"], timeout=0)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                locked.execute("INSERT INTO note VALUES ('by another')")
            locked.close()


def test_the_raw_connection_takes_functions(sqlite: SqliteDatabase) -> None:
    """trap 12: what third-party code does with `connection.connection`."""
    wrapper = sqlite.wrapper()
    wrapper.ensure_connection()
    wrapper.connection.create_function("double", 1, lambda number: 2 * number)
    assert value(wrapper, "SELECT double(21)") == 42


def test_a_uri_is_pooled_as_it_is(sqlite: SqliteDatabase) -> None:
    path = sqlite.entry["NAME"]
    sqlite.execute("CREATE TABLE note (text)")
    wrapper: Any = sqlite.wrapper(NAME=f"file:{path}?mode=ro", OPTIONS={"uri": True})
    try:
        assert value(wrapper, "SELECT count(*) FROM note") == 0
        raw = wrapper.connection
        wrapper.close()
        with pytest.raises(OperationalError, match="readonly"):
            write(wrapper, "INSERT INTO note VALUES ('x')")
        assert wrapper.connection is raw
    finally:
        wrapper.close()
        wrapper.resolve_pool().close()


def test_the_fragile_connection_of_these_tests_is_healthy_by_itself(database: Database) -> None:
    """The stock classes must pass the same tests: nothing may hang on the helper."""
    options = {key: val for key, val in database.entry["OPTIONS"].items() if key != "factory"}
    wrapper = database.wrapper()
    wrapper.settings_dict["OPTIONS"] = options
    wrapper.ensure_connection()
    raw = wrapper.connection
    wrapper.close()
    wrapper.ensure_connection()
    assert wrapper.connection is raw


def test_the_settings_of_a_driver_never_name_a_relative_file(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read by other threads at any moment: a pool is shown with what they say."""
    wrapper = sqlite.wrapper()
    driver = wrapper.resolve_pool()._driver
    path = Path(wrapper.settings_dict["NAME"])
    monkeypatch.chdir(path.parent)
    wrapper.settings_dict["NAME"] = path.name
    names = []

    class Noting(type(driver)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "_settings":
                names.append(value["NAME"])
            super().__setattr__(name, value)

    driver.__class__ = Noting
    driver.update_settings(wrapper)
    assert names == [str(path)]


def test_a_connection_is_not_interrupted_while_it_is_closed() -> None:
    """SQLite must not free it in the meantime."""
    interrupted = threading.Event()

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            other.start()
            assert not interrupted.wait(0.1)
            super().close()

        def interrupt(self) -> None:
            interrupted.set()
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                super().interrupt()

    closer = SerialCloser()
    connection = sqlite3.connect(":memory:", factory=Connection, check_same_thread=False)
    other = threading.Thread(target=closer.interrupt, args=(connection,))
    closer.close(connection)
    other.join(20)
    assert interrupted.is_set()
