"""MySQL and MariaDB: `reset="session"` and `scope="transaction"`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from django.db import ProgrammingError, transaction
from django.db.backends.signals import connection_created

from pooling.backends.mysql.session_tracking import PyMySQLConnection
from tests.support.databases import in_thread
from tests.support.mariadb import ISOLATION, MYSQLD, NO_ROLE
from tests.support.servers import uses_mysqlclient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.conftest import Thing
    from tests.support.mariadb import MariaDatabase

SESSION = {"reset": "session", "max_size": 1}
TRANSACTION = {"reset": "session", "scope": "transaction"}

LEFTOVERS = {
    "session variable": (["SET SESSION sql_mode = 'ANSI'"], "SELECT @@sql_mode", ...),
    "isolation": (
        ["SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        ISOLATION,
        "READ-COMMITTED",
    ),
    "character set": (["SET NAMES latin1"], "SELECT @@character_set_client", "utf8mb4"),
    "time zone": (["SET time_zone = '+03:00'"], "SELECT @@time_zone", "SYSTEM"),
    "user variable": (["SET @left = 1"], "SELECT @left", None),
    "user variable in a query": (["SELECT @left := 1"], "SELECT @left", None),
    "user variable after INTO": (["SELECT 1 INTO @left"], "SELECT @left", None),
    "lock": (["SELECT GET_LOCK('left', 1)"], "SELECT IS_USED_LOCK('left')", None),
    "temporary table": (
        ["CREATE TEMPORARY TABLE backends_thing (number int)", "SELECT 1 FROM backends_thing"],
        "SELECT COUNT(*) FROM backends_thing WHERE name = 'no column'",
        0,
    ),
    "prepared statement": (["PREPARE left_over FROM 'SELECT 1'"], "SELECT 1", 1),
    "locked tables": (["LOCK TABLES backends_thing WRITE"], "SELECT 1", 1),
    "database": (["USE mysql"], "SELECT DATABASE() LIKE 'test_%'", 1),
    "last insert id": (
        ["INSERT INTO backends_thing (name) VALUES ('a')", "SELECT LAST_INSERT_ID(17)"],
        "SELECT LAST_INSERT_ID()",
        0,
    ),
    "role": (["SET ROLE left_role"], "SELECT CURRENT_ROLE()", NO_ROLE),
}


@pytest.fixture
def role(mariadb: MariaDatabase) -> Iterator[None]:
    mariadb.server.execute("CREATE ROLE left_role", "GRANT left_role TO 'pooling'@'%'")
    yield
    mariadb.server.execute("DROP ROLE left_role")


@pytest.mark.parametrize("case", LEFTOVERS)
@pytest.mark.parametrize("reset", ["session", "always"])
def test_nothing_is_left_for_the_next_lease(
    mariadb: MariaDatabase,
    things: Callable[[MariaDatabase], type[Thing]],
    role: None,
    case: str,
    reset: str,
) -> None:
    things(mariadb)
    statements, question, answer = LEFTOVERS[case]
    wrapper = mariadb.wrapper(pool={**SESSION, "reset": reset})
    before = mariadb.value(wrapper, question) if answer is ... else answer
    with wrapper.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            cursor.fetchall()
    wrapper.close()
    assert mariadb.value(wrapper, question) == before
    assert mariadb.value(wrapper, "SELECT COUNT(*) FROM backends_thing") in (0, 1)
    mariadb.execute("INSERT INTO backends_thing (name) VALUES ('nobody holds a lock')")
    with wrapper.cursor() as cursor, pytest.raises(Exception, match="left_over"):
        cursor.execute("EXECUTE left_over")
    stats = wrapper.resolve_pool().stats()
    assert stats.connects == (2 if case in ("database", "role") else 1)


def test_a_role_that_a_function_has_set_is_not_left(mariadb: MariaDatabase, role: None) -> None:
    mariadb.execute(
        "CREATE DEFINER = 'pooling'@'%' FUNCTION f() RETURNS int "
        "BEGIN SET ROLE left_role; RETURN 1; END"
    )
    wrapper = mariadb.wrapper(pool=SESSION)
    assert mariadb.value(wrapper, "SELECT f()") == 1
    assert "left_role" in mariadb.value(wrapper, "SELECT CURRENT_ROLE()")
    wrapper.close()
    assert mariadb.value(wrapper, "SELECT CURRENT_ROLE()") == NO_ROLE
    wrapper.close()
    # MySQL undoes it when mysqlclient logs in again; else the session has to be replaced.
    undone = MYSQLD and uses_mysqlclient()
    assert wrapper.resolve_pool().stats().connects == (1 if undone else 2)


def test_a_session_that_was_reset_is_in_no_transaction(mariadb: MariaDatabase) -> None:
    """Neither by the statements that set it up again, nor by those of a receiver."""

    def receiver(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 4321")

    connection_created.connect(receiver)
    try:
        wrapper = mariadb.wrapper(pool={**TRANSACTION, "max_size": 1})
        for _ in range(3):
            assert mariadb.value(wrapper, "SELECT 1") == 1
            assert wrapper.resolve_pool().stats().leased == 0
            with wrapper.cursor() as cursor:
                cursor.execute("SET @mine = 1")
            wrapper.close()
    finally:
        connection_created.disconnect(receiver)


def test_sql_mode_and_init_command_are_there_again(mariadb: MariaDatabase) -> None:
    options = {"sql_mode": "ANSI_QUOTES", "init_command": "SET @mine = 7"}
    wrapper = mariadb.wrapper(pool=SESSION, OPTIONS=options)
    session = mariadb.session(wrapper)
    with wrapper.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = '', @mine = 1")
    wrapper.close()
    assert mariadb.value(wrapper, "SELECT @@sql_mode") == "ANSI_QUOTES"
    assert mariadb.value(wrapper, "SELECT @mine") == 7
    assert mariadb.session(wrapper) == session


def test_receivers_set_up_a_session_again(mariadb: MariaDatabase) -> None:
    def receiver(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET @tenant = 5")

    connection_created.connect(receiver)
    try:
        wrapper = mariadb.wrapper(pool=SESSION)
        for value in (6, 8):
            assert mariadb.value(wrapper, "SELECT @tenant") == 5
            mariadb.value(wrapper, f"SELECT @tenant := {value}")
            wrapper.close()
        assert wrapper.resolve_pool().stats().connects == 1
    finally:
        connection_created.disconnect(receiver)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "SELECT `a`.`b` FROM `a` WHERE `c` = 'mail@example.org; SET @a = 1' LIMIT 21",
        "INSERT INTO `a` (`b`, `c`) VALUES ('it''s', 'a \\\\ b'), ('x', NULL) RETURNING `a`.`id`",
        "UPDATE `a` SET `b` = UPPER(`c`) WHERE `d` IN (1, 2)",
        "DELETE FROM `a` WHERE `d` IN (SELECT MAX(`d`) FROM `a`)",
        b"SELECT COUNT(*) AS `__count` FROM `a`",
        "SELECT @@version",
        "SAVEPOINT `s1`",
        "ROLLBACK TO SAVEPOINT `s1`",
        "RELEASE SAVEPOINT `s1`",
        "SHOW TABLES",
    ],
)
def test_ordinary_statements_are_neutral(mariadb: MariaDatabase, statement: Any) -> None:
    from pooling.backends.mysql.sql_classifier import is_session_neutral

    assert is_session_neutral(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT @a",
        "SELECT 'a\\' , @a := 1, 'b\\'",
        "SELECT 'a\\', @a := 1, '\\', ''",
        "SELECT my_function(1)",
        "SELECT `my_function`(1)",
        "SELECT 1; SET @a = 1",
        "SELECT /*! @a := */ 1",
        "SELECT 1 -- ' \n, @a := 1 -- '",
        "SELECT 1 # ' \n, @a := 1 # '",
        "COMMIT RELEASE",
        "CALL p()",
        "USE mysql",
        None,
        "SELECT '" + "a" * 70_000 + "'",
    ],
)
def test_what_may_change_the_session_is_not(mariadb: MariaDatabase, statement: Any) -> None:
    from pooling.backends.mysql.sql_classifier import is_session_neutral

    assert not is_session_neutral(statement)


def test_transaction_scope_releases_between_queries(
    mariadb: MariaDatabase, things: Callable[[MariaDatabase], type[Thing]]
) -> None:
    thing = things(mariadb)
    with mariadb.alias("scoped", pool=TRANSACTION) as wrapper:
        thing.objects.using("scoped").create(name="one")
        assert wrapper.connection is None
        with transaction.atomic(using="scoped"):
            thing.objects.using("scoped").create(name="two")
            assert wrapper.connection is not None
            thing.objects.using("scoped").filter(name="one").update(name="1")
        assert wrapper.connection is None
        assert thing.objects.using("scoped").count() == 2
        assert wrapper.connection is None


@pytest.mark.parametrize(
    "statement",
    [
        "SET @a = 1",
        "SELECT GET_LOCK('a', 1)",
        "CREATE TEMPORARY TABLE t (a int)",
        "LOCK TABLES backends_thing READ",
        "PREPARE p FROM 'SELECT 1'",
        "BEGIN",
    ],
)
def test_transaction_scope_keeps_the_session_that_was_changed(
    mariadb: MariaDatabase, things: Callable[[MariaDatabase], type[Thing]], statement: str
) -> None:
    things(mariadb)
    wrapper = mariadb.wrapper(pool=TRANSACTION)
    with wrapper.cursor() as cursor:
        cursor.execute(statement)
    assert wrapper.connection is not None
    session = mariadb.session(wrapper)
    assert mariadb.session(wrapper) == session
    wrapper.close()
    other = in_thread(lambda: _value_in_other(mariadb, "SELECT IS_USED_LOCK('a')"))
    assert other is None


def _value_in_other(mariadb: MariaDatabase, sql: str) -> Any:
    wrapper = mariadb.wrapper(pool=TRANSACTION)
    try:
        return mariadb.value(wrapper, sql)
    finally:
        wrapper.close()


def test_transaction_scope_refuses_what_another_session_would_answer(
    mariadb: MariaDatabase,
) -> None:
    wrapper = mariadb.wrapper(pool=TRANSACTION)
    with pytest.raises(ProgrammingError, match="LAST_INSERT_ID"):
        mariadb.value(wrapper, "SELECT LAST_INSERT_ID()")


def test_a_descriptor_is_read_once() -> None:
    """Another thread, which ends the session, asks for it; the holder may close it meanwhile."""

    class Closing(PyMySQLConnection):
        @property
        def _sock(self) -> Any:  # type: ignore[override]
            return looks.pop()

    with socket.socket() as sock:
        looks = [None, sock]
        assert Closing().fileno() == sock.fileno()
        with pytest.raises(OSError, match="closed"):
            Closing().fileno()
