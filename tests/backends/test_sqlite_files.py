"""Scenario 61: SQLite: the next lease reads what is at the path, however it came there.

Trap 35. Without a pool no file is open between two requests, so that it may be replaced then. The
stock engine passes the same tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pooling.backends.sqlite3 import database_files, driver
from pooling.backends.sqlite3.base import DatabaseWrapper
from pooling.registry import REGISTRY
from tests.support.databases import PATIENCE, SqliteDatabase, eventually, in_thread

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

REPOSITORY = Path(__file__).resolve().parents[2]
ONE = {"max_size": 1, "timeout": 10}
ENGINES = pytest.mark.parametrize("make", [SqliteDatabase.wrapper, SqliteDatabase.stock])
MODES = pytest.mark.parametrize("mode", ["DELETE", "WAL"])


def make_file(path: Path | str, text: str, rows: int = 3, mode: str = "DELETE") -> None:
    """Make a database of `rows` times `text`, indexed, in two transactions."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.executescript("CREATE TABLE note (text); CREATE INDEX by_text ON note (text)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO note VALUES (?)", [(text,)] * rows)
    connection.execute("COMMIT")
    connection.close()


def overwrite(path: Path, source: Path) -> None:
    """Copy over a file until its times are others: their resolution is some milliseconds."""
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:
        shutil.copyfile(source, path)


def query(wrapper: BaseDatabaseWrapper, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement in a lease of its own."""
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        wrapper.close()


def notes(wrapper: BaseDatabaseWrapper) -> list[str]:
    """Return the rows, after a look at whether the file is sound."""
    assert query(wrapper, "PRAGMA integrity_check") == [("ok",)]
    return [text for (text,) in query(wrapper, "SELECT text FROM note ORDER BY rowid")]


def read(path: Path | str) -> list[str]:
    """Return the rows past Django."""
    connection = sqlite3.connect(path)
    with contextlib.closing(connection):
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY rowid")]


# ---- another file at the path --------------------------------------------------------------------


@ENGINES
@MODES
@pytest.mark.parametrize("new_mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("rows", [3, 3000])
def test_a_file_replaced_at_rest(
    sqlite: SqliteDatabase, tmp_path: Path, make: Any, mode: str, new_mode: str, rows: int
) -> None:
    """Item 1 of the trap: the old log is not applied to the new file, nor the old index used."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode=mode)
    make_file(tmp_path / "new", "new", rows, new_mode)
    wrapper = make(sqlite)
    query(wrapper, "INSERT INTO note VALUES ('old, too')")
    os.link(path, tmp_path / "backup")
    (tmp_path / "new").replace(path)

    assert notes(wrapper) == ["new"] * rows
    query(wrapper, "INSERT INTO note VALUES ('newer')")
    assert notes(wrapper) == [*["new"] * rows, "newer"]

    REGISTRY.close_database(path)
    assert read(path) == [*["new"] * rows, "newer"]
    assert read(tmp_path / "backup") == ["old"] * 3 + ["old, too"]
    assert sqlite.sessions() == []


def test_a_file_replaced_under_idle_connections_of_several_pools(
    sqlite: SqliteDatabase, tmp_path: Path
) -> None:
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode="WAL")
    make_file(tmp_path / "new", "new", 3000, "WAL")
    wrappers = [sqlite.wrapper(pool={"name": name}) for name in ("one", "one", "two", "two")]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        query(wrapper, "INSERT INTO note VALUES ('old, too')")
    (tmp_path / "new").replace(path)

    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        query(wrapper, "INSERT INTO note VALUES ('newer')")
    for wrapper in wrappers:
        assert notes(wrapper) == ["new"] * 3000 + ["newer"] * 4

    REGISTRY.close_database(path)
    assert read(path) == ["new"] * 3000 + ["newer"] * 4


def test_a_file_replaced_while_another_thread_opens_one(
    sqlite: SqliteDatabase, tmp_path: Path
) -> None:
    """A second caller opens a connection while the stale one has not even been looked at."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode="WAL")
    make_file(tmp_path / "new", "new", 3000, "WAL")
    stale, other = sqlite.wrapper(pool={"name": "stale"}), sqlite.wrapper(pool={"name": "other"})
    query(stale, "INSERT INTO note VALUES ('old, too')")
    (tmp_path / "new").replace(path)

    query(other, "INSERT INTO note VALUES ('newer')")
    stale.resolve_pool().close()

    assert notes(other) == ["new"] * 3000 + ["newer"]
    assert Path(f"{path}-wal").exists()
    REGISTRY.close_database(path)
    assert read(path) == ["new"] * 3000 + ["newer"]


def test_a_file_replaced_although_it_was_locked_when_it_was_opened(
    sqlite: SqliteDatabase, tmp_path: Path
) -> None:
    """Whether there is a log is found out when the lock is gone."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode="WAL")
    make_file(tmp_path / "new", "new", 3000, "WAL")
    locking = sqlite3.connect(path, isolation_level=None)
    locking.execute("PRAGMA locking_mode = EXCLUSIVE")
    locking.execute("SELECT count(*) FROM note").fetchall()
    wrapper = sqlite.wrapper(pool=ONE)
    wrapper.ensure_connection()
    locking.close()
    for number in range(5):
        (tmp_path / f"{number}").touch()  # lest the next log gets the inode of this one
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM note")
    wrapper.close()
    sqlite.execute("INSERT INTO note VALUES ('by another')")
    (tmp_path / "new").replace(path)

    assert notes(wrapper) == ["new"] * 3000


@ENGINES
@MODES
def test_a_file_deleted_at_rest(sqlite: SqliteDatabase, make: Any, mode: str) -> None:
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode=mode)
    wrapper = make(sqlite)
    query(wrapper, "INSERT INTO note VALUES ('old, too')")
    Path(path).unlink()

    assert query(wrapper, "SELECT count(*) FROM sqlite_master") == [(0,)]
    query(wrapper, "CREATE TABLE note (text)")
    assert notes(wrapper) == []


@ENGINES
def test_a_file_replaced_together_with_its_log(
    sqlite: SqliteDatabase, tmp_path: Path, make: Any
) -> None:
    """A hot copy has a log of its own, which is kept: only the old file's is removed."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode="WAL")
    source = tmp_path / "source"
    make_file(source, "new", mode="WAL")
    wrapper = make(sqlite)
    query(wrapper, "INSERT INTO note VALUES ('old, too')")
    writing = sqlite3.connect(source, isolation_level=None)
    writing.execute("INSERT INTO note VALUES ('in the log')")
    for end in ("", "-wal"):
        shutil.copyfile(f"{source}{end}", f"{source}-copy{end}")
    writing.close()
    for end in ("", "-wal"):
        Path(f"{source}-copy{end}").replace(f"{path}{end}")

    assert notes(wrapper) == ["new"] * 3 + ["in the log"]


CHILD = """
import sys
import django
from django.conf import settings
from django.db import connection

settings.configure(DATABASES={"default": {
    "ENGINE": "pooling.backends.sqlite3", "NAME": sys.argv[1],
    "OPTIONS": {"pool": {"min_size": 0, "max_idle": 600}},
}})
django.setup()
for line in sys.stdin:
    with connection.cursor() as cursor:
        cursor.execute(line)
        print(cursor.fetchall(), flush=True)
    connection.close()
"""


def test_a_file_replaced_under_idle_connections_of_two_processes(
    sqlite: SqliteDatabase, tmp_path: Path
) -> None:
    """Neither uses, nor deletes, what the other has of the new file."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode="WAL")
    make_file(tmp_path / "new", "new", 3000, "WAL")
    wrapper = sqlite.wrapper(pool=ONE)
    query(wrapper, "INSERT INTO note VALUES ('old, too')")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, path],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def ask(sql: str) -> str:
        print(sql, file=child.stdin, flush=True)
        return in_thread(child.stdout.readline).strip()  # type: ignore[union-attr]

    try:
        assert ask("SELECT count(*) FROM note") == "[(4,)]"
        (tmp_path / "new").replace(path)
        query(wrapper, "INSERT INTO note VALUES ('by the parent')")
        assert ask("SELECT count(*) FROM note") == "[(3001,)]"
        assert ask("INSERT INTO note VALUES ('by the child')") == "[]"
        assert notes(wrapper)[3000:] == ["by the parent", "by the child"]
        assert ask("PRAGMA integrity_check") == "[('ok',)]"
    finally:
        child.stdin.close()
        child.wait(PATIENCE)
        child.stdout.close()
    assert notes(wrapper)[3000:] == ["by the parent", "by the child"]
    REGISTRY.close_database(path)
    assert read(path)[3000:] == ["by the parent", "by the child"]


@MODES
def test_a_file_is_closed_when_it_is_not_used(sqlite: SqliteDatabase, mode: str) -> None:
    """Then it is as with the stock engine: no log that another process could find."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode=mode)
    settings = {**sqlite.entry, "OPTIONS": {}}
    assert DatabaseWrapper(settings).resolve_pool().config.max_idle == 1.0
    wrapper = sqlite.wrapper(pool={"min_size": 1, "max_idle": 0.01})
    query(wrapper, "INSERT INTO note VALUES ('old, too')")
    eventually(lambda: sqlite.sessions() == [])
    assert not Path(f"{path}-wal").exists()
    assert notes(wrapper) == ["old"] * 3 + ["old, too"]


# ---- another path --------------------------------------------------------------------------------


@ENGINES
@MODES
def test_a_symbolic_link_that_is_switched(
    sqlite: SqliteDatabase, tmp_path: Path, make: Any, mode: str
) -> None:
    """Item 2 of the trap: SQLite resolves the link once, and says the file is what it was."""
    link = Path(sqlite.entry["NAME"])
    for name in ("one", "two"):
        make_file(tmp_path / name, name, mode=mode)
    link.symlink_to(tmp_path / "one")
    wrapper = make(sqlite)
    for name in ("one", "two", "one"):
        (tmp_path / "link").symlink_to(tmp_path / name)
        (tmp_path / "link").replace(link)
        assert set(notes(wrapper)) == {name}
        query(wrapper, f"INSERT INTO note VALUES ('{name}')")
    REGISTRY.close_database(str(link))
    assert read(tmp_path / "one") == ["one"] * 5
    assert read(tmp_path / "two") == ["two"] * 4


@ENGINES
@pytest.mark.parametrize("name", ["live.sqlite3", "file:live.sqlite3?cache=private"])
def test_a_relative_name_follows_the_current_directory(
    sqlite: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, name: str
) -> None:
    """Item 3 of the trap: each directory has a pool of its own."""
    wrapper = make(sqlite, NAME=name)
    for directory in ("one", "two"):
        (tmp_path / directory).mkdir()
        make_file(tmp_path / directory / "live.sqlite3", directory)
    for directory in ("one", "two", "one"):
        monkeypatch.chdir(tmp_path / directory)
        assert set(notes(wrapper)) == {directory}
    for directory in ("one", "two"):
        monkeypatch.chdir(tmp_path / directory)
        REGISTRY.close_database(database_files.absolute_name(name))


def test_a_pool_opens_its_file_wherever_the_process_is_by_then(
    sqlite: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Item 3 of the trap: the file is the one that the caller meant."""
    for directory in ("one", "two"):
        (tmp_path / directory).mkdir()
        make_file(tmp_path / directory / "live.sqlite3", directory)
    monkeypatch.chdir(tmp_path / "one")
    pool = sqlite.wrapper(NAME="live.sqlite3").resolve_pool()
    monkeypatch.chdir(tmp_path / "two")
    with pool.acquire() as connection:
        assert connection.execute("SELECT DISTINCT text FROM note").fetchall() == [("one",)]
    pool.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("live", "{here}/live"),
        ("/absolute/live", "/absolute/live"),
        (Path("/absolute/live"), Path("/absolute/live")),
        (":memory:", ":memory:"),
        ("file::memory:?cache=shared", "file::memory:?cache=shared"),
        ("file:live?mode=ro", "file:{here}/live?mode=ro"),
        ("file:some%20where/li%3Fve#x", "file:{here}/some%20where/li%3Fve#x"),
        ("file:/absolute/live?mode=ro", "file:/absolute/live?mode=ro"),
        ("file:///absolute/live", "file:///absolute/live"),
        ("file://localhost/absolute/live", "file://localhost/absolute/live"),
    ],
)
def test_a_name_is_completed_with_the_current_directory(name: Any, expected: Any) -> None:
    if isinstance(expected, str):
        expected = expected.format(here=Path.cwd())
    assert database_files.absolute_name(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/absolute/live", "/absolute/live"),
        (Path("/absolute/live"), "/absolute/live"),
        ("file:/some%20where/li%3Fve?mode=ro", "/some where/li?ve"),
        ("file:///absolute/live?a=/b#c", "/absolute/live"),
        ("file://localhost/absolute/live", "/absolute/live"),
    ],
)
def test_a_name_means_a_path(name: Any, expected: str) -> None:
    assert database_files.path_of(name) == expected


# ---- other content in the same file --------------------------------------------------------------


@ENGINES
@MODES
def test_a_file_overwritten_in_place_with_an_equal_change_counter(
    sqlite: SqliteDatabase, tmp_path: Path, make: Any, mode: str
) -> None:
    """Item 4 of the trap: SQLite believes its cache as long as the counter is the same."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode=mode)
    make_file(tmp_path / "new", "new", mode=mode)
    assert Path(path).read_bytes()[24:40] == (tmp_path / "new").read_bytes()[24:40]
    wrapper = make(sqlite)
    assert notes(wrapper) == ["old"] * 3

    overwrite(Path(path), tmp_path / "new")

    assert notes(wrapper) == ["new"] * 3
    query(wrapper, "INSERT INTO note VALUES ('newer')")
    assert notes(wrapper) == ["new"] * 3 + ["newer"]


@ENGINES
@MODES
@pytest.mark.parametrize("rows", [1, 3000])
def test_a_file_overwritten_in_place_with_another_size(
    sqlite: SqliteDatabase, tmp_path: Path, make: Any, mode: str, rows: int
) -> None:
    """The connection that has the index of the old log is closed before another one is opened."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", 500, mode=mode)
    make_file(tmp_path / "new", "new", rows, mode=mode)
    wrapper = make(sqlite)
    assert notes(wrapper) == ["old"] * 500

    overwrite(Path(path), tmp_path / "new")

    assert notes(wrapper) == ["new"] * rows
    query(wrapper, "INSERT INTO note VALUES ('newer')")
    assert notes(wrapper) == ["new"] * rows + ["newer"]


@MODES
def test_what_other_connections_write_costs_no_connection(
    sqlite: SqliteDatabase, mode: str
) -> None:
    """The file's times change with every transaction, and SQLite notices these by itself."""
    make_file(sqlite.entry["NAME"], "old", mode=mode)
    one, two = sqlite.wrapper(), sqlite.wrapper()
    for wrapper in (one, two):
        wrapper.ensure_connection()
    for wrapper in (one, two):
        wrapper.close()
    idle = sqlite3.connect(sqlite.entry["NAME"], isolation_level=None)
    for number in range(20):
        one.ensure_connection()
        query(two, f"INSERT INTO note VALUES ('{number}')")
        one.close()
        idle.execute(f"INSERT INTO note VALUES ('{number}, too')")
    idle.close()
    assert len(notes(one)) == 43
    assert one.resolve_pool().stats().connects == 2


@MODES
@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE other (n)",),
        ("CREATE TABLE other (n)", "DROP TABLE other"),
        ("ALTER TABLE note ADD COLUMN other",),
        ("VACUUM",),
        ("ANALYZE",),
        ("PRAGMA user_version = 7",),
        ("INSERT INTO note VALUES ('x')", "DELETE FROM note"),
        ("BEGIN", "INSERT INTO note VALUES ('x')", "ROLLBACK"),
        ("BEGIN", "INSERT INTO note VALUES ('x')"),
    ],
    ids=" ".join,
)
def test_what_the_connection_itself_writes_costs_none(
    sqlite: SqliteDatabase, mode: str, statements: tuple[str, ...]
) -> None:
    make_file(sqlite.entry["NAME"], "old", mode=mode)
    wrapper = sqlite.wrapper()
    for _ in range(2):
        with wrapper.cursor() as cursor:
            for statement in statements:
                with contextlib.suppress(Exception):  # the second time, some fail
                    cursor.execute(statement)
        wrapper.close()
    wrapper.ensure_connection()
    wrapper.close()
    assert wrapper.resolve_pool().stats().connects == 1


def test_a_look_at_a_file_that_is_being_written_does_not_wait(sqlite: SqliteDatabase) -> None:
    """A caller waits for locks in its own statements, not in `acquire`."""
    path = sqlite.entry["NAME"]
    make_file(path, "old")
    wrapper = sqlite.wrapper(pool=ONE, OPTIONS={"timeout": 3600})
    query(wrapper, "SELECT 1 FROM note")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    os.utime(path)
    pool = wrapper.resolve_pool()
    try:
        in_thread(lambda: pool.acquire().release())
    finally:
        writer.close()
    assert pool.stats().connects == 1
    assert query(wrapper, "PRAGMA busy_timeout") == [(3_600_000,)]


def test_a_look_that_is_interrupted_ends_the_connection(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have left the session with a timeout that is not the user's."""
    make_file(sqlite.entry["NAME"], "old")
    wrapper = sqlite.wrapper(pool=ONE)
    query(wrapper, "SELECT 1 FROM note")
    sqlite.execute("INSERT INTO note VALUES ('by another')")
    os.utime(sqlite.entry["NAME"])

    def interrupt(_connection: sqlite3.Connection) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_data_version", interrupt)
        with pytest.raises(KeyboardInterrupt):
            wrapper.ensure_connection()
    assert notes(wrapper) == ["old"] * 3 + ["by another"]
    stats = wrapper.resolve_pool().stats()
    assert (stats.connects, stats.size) == (2, 1)


# ---- another file while one is being opened ----------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
@MODES
def test_a_file_replaced_while_it_is_opened(
    sqlite: SqliteDatabase, tmp_path: Path, moment: str, mode: str
) -> None:
    """The connection may have either file: it is not used, and the next one has the new file."""
    path = sqlite.entry["NAME"]
    make_file(path, "old", mode=mode)
    make_file(tmp_path / "new", "new", mode=mode)
    opened = []

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        if not opened and moment == "before":
            (tmp_path / "new").replace(path)
        opened.append(sqlite3.Connection(*args, **kwargs))
        if len(opened) == 1 and moment == "after":
            (tmp_path / "new").replace(path)
        return opened[-1]

    wrapper = sqlite.wrapper(OPTIONS={"factory": connect})
    assert notes(wrapper) == ["new"] * 3
    query(wrapper, "INSERT INTO note VALUES ('newer')")
    assert len(opened) == 2
    REGISTRY.close_database(path)
    assert read(path) == ["new"] * 3 + ["newer"]
