"""MySQL and MariaDB: what a wrapper leases, what a release cleans, what an outage does."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, IntegrityError, OperationalError, transaction

from tests.support.databases import PATIENCE, eventually, in_thread, in_threads
from tests.support.servers import mysql_driver, uses_mysqlclient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.conftest import Thing
    from tests.support.mariadb import MariaDatabase


def test_a_closed_wrapper_finds_the_same_session_again(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper()
    first = mariadb.session(wrapper)
    raw = wrapper.connection
    assert isinstance(raw, mariadb.raw_class)
    wrapper.close()
    assert wrapper.connection is None
    assert mariadb.session(wrapper) == first
    assert wrapper.connection is raw
    assert wrapper.resolve_pool().stats().connects == 1
    assert mariadb.sessions() == [first]


def test_wrappers_never_share_a_session(mariadb: MariaDatabase) -> None:
    wrappers = [mariadb.wrapper() for _ in range(3)]
    assert len({mariadb.session(wrapper) for wrapper in wrappers}) == 3
    assert len(mariadb.sessions()) == 3


def test_aliases_with_equal_settings_share_a_pool(mariadb: MariaDatabase) -> None:
    wrapper, other = mariadb.wrapper(), mariadb.wrapper("another alias")
    session = mariadb.session(wrapper)
    wrapper.close()
    assert mariadb.session(other) == session
    level = mariadb.wrapper(OPTIONS={"isolation_level": "serializable"})
    assert level.resolve_pool() is not wrapper.resolve_pool()


def test_threads_take_turns(mariadb: MariaDatabase) -> None:
    pool = {"max_size": 2}

    def work() -> int:
        wrapper = mariadb.wrapper(pool=pool)
        for _ in range(20):
            session = mariadb.session(wrapper)
            wrapper.close()
        return session

    assert len(set(in_threads(8, work))) <= 2
    assert len(mariadb.sessions()) <= 2


def test_a_full_pool_times_out(mariadb: MariaDatabase) -> None:
    pool = {"max_size": 1, "timeout": 0.2}
    wrapper, other = mariadb.wrapper(pool=pool), mariadb.wrapper(pool=pool)
    mariadb.warm(wrapper)
    mariadb.session(wrapper)
    with pytest.raises(OperationalError, match="no connection within"):
        mariadb.session(other)


@pytest.mark.parametrize("begin", ["BEGIN", "SET autocommit = 0", "/* a */ start transaction", ""])
@pytest.mark.parametrize("reset", ["rollback", "session"])
def test_an_open_transaction_is_rolled_back(
    mariadb: MariaDatabase, things: Callable[[MariaDatabase], type[Thing]], begin: str, reset: str
) -> None:
    things(mariadb)
    wrapper = mariadb.wrapper(pool={"reset": reset})
    session = mariadb.session(wrapper)
    with wrapper.cursor() as cursor:
        if begin:
            cursor.execute(begin)
        else:
            wrapper.set_autocommit(False)
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('left')")
    wrapper.close()
    assert mariadb.session(wrapper) == session
    assert mariadb.value(wrapper, "SELECT COUNT(*) FROM backends_thing") == 0
    assert mariadb.value(wrapper, "SELECT @@autocommit") == 1


def test_a_failed_statement_with_autocommit_off_leaves_no_locks(
    mariadb: MariaDatabase, things: Callable[[MariaDatabase], type[Thing]]
) -> None:
    things(mariadb)
    mariadb.execute("INSERT INTO backends_thing (name) VALUES ('there')")
    wrapper = mariadb.wrapper()
    wrapper.set_autocommit(False)
    with wrapper.cursor() as cursor, pytest.raises(IntegrityError):
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('there')")
    wrapper.close()
    mariadb.execute("SET innodb_lock_wait_timeout = 1", "DELETE FROM backends_thing")


def test_atomic_blocks_work(
    mariadb: MariaDatabase, things: Callable[[MariaDatabase], type[Thing]]
) -> None:
    thing = things(mariadb)
    with mariadb.alias("atomic"):
        with transaction.atomic(using="atomic"):
            thing.objects.using("atomic").create(name="one")
            with pytest.raises(IntegrityError), transaction.atomic(using="atomic"):
                thing.objects.using("atomic").create(name="one")
        assert [each.name for each in thing.objects.using("atomic").all()] == ["one"]
    assert mariadb.execute("SELECT name FROM backends_thing") == [("one",)]


def test_autocommit_off_in_the_settings(
    mariadb: MariaDatabase, things: Callable[[MariaDatabase], type[Thing]]
) -> None:
    things(mariadb)
    wrapper = mariadb.wrapper(AUTOCOMMIT=False)
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('lost')")
    session = mariadb.session(wrapper)
    wrapper.close()
    assert mariadb.session(wrapper) == session
    assert mariadb.value(wrapper, "SELECT COUNT(*) FROM backends_thing") == 0
    assert mariadb.value(wrapper, "SELECT @@autocommit") == 0


def test_a_release_after_queries_costs_no_round_trip(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper(pool={"reset": "session"})
    mariadb.session(wrapper)
    wrapper.close()

    # One connection asks: that of another question, just before, may not have ended yet.
    with closing(mariadb.server.connect()) as observer, closing(observer.cursor()) as cursor:

        def questions() -> int:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])

        eventually(lambda: -questions() + questions() == 1)
        before = questions()
        for _ in range(10):
            mariadb.session(wrapper)
            wrapper.close()
        assert questions() - before == 10 + 1


def test_a_killed_session_is_replaced_before_it_is_lent(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper(pool={"ping_after": None})
    session = mariadb.session(wrapper)
    wrapper.close()
    mariadb.terminate(session)
    assert mariadb.session(wrapper) != session


def test_a_session_that_the_server_has_timed_out_is_not_lent(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper(
        OPTIONS={"init_command": "SET SESSION wait_timeout = 1"}, pool={"ping_after": None}
    )
    session = mariadb.session(wrapper)
    wrapper.close()
    eventually(lambda: session not in mariadb.sessions())
    assert mariadb.session(wrapper) != session


def test_a_session_killed_in_use_is_an_error_once(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper()
    session = mariadb.session(wrapper)
    mariadb.terminate(session)
    with pytest.raises(Error):
        mariadb.session(wrapper)
    wrapper.close()
    assert mariadb.session(wrapper) != session


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"PASSWORD": "wrong"}, 1045),
        ({"NAME": "there_is_none"}, 1049),
        ({"HOST": "host.invalid"}, None),
    ],
)
def test_a_permanent_error_arrives_at_once(
    mariadb: MariaDatabase, changes: dict[str, Any], number: int | None
) -> None:
    wrapper = mariadb.wrapper(**changes)
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        wrapper.ensure_connection()
    assert time.monotonic() - began < 10
    assert number in (None, caught.value.args[0])


def test_a_refused_connection_is_tried_again(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper(PORT="1", pool={"timeout": 1.5})
    with pytest.raises(OperationalError):
        wrapper.ensure_connection()
    assert wrapper.resolve_pool().stats().connect_errors > 1


def test_a_fork_uses_sessions_of_its_own(mariadb: MariaDatabase) -> None:
    held, idle = mariadb.wrapper(), mariadb.wrapper()
    mine, other = mariadb.session(held), mariadb.session(idle)
    idle.close()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(mariadb.session(held) in (mine, other))
            code |= int(mariadb.session(idle) in (mine, other)) << 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mariadb.session(held) == mine
    assert mariadb.session(idle) == other


def test_an_answer_that_was_not_taken_does_not_reach_the_next_lease(
    mariadb: MariaDatabase,
) -> None:
    """An interrupt between mysqlclient's `query` and `store_result` leaves it so."""
    wrapper = mariadb.wrapper()
    mariadb.session(wrapper)
    wrapper.connection.query("SELECT 1")
    wrapper.close()
    assert isinstance(mariadb.session(wrapper), int)


class Interrupted(BaseException):
    """What a signal handler raises."""


@pytest.fixture
def interrupt_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that lets an interrupt come where PyMySQL is about to wait for an answer."""
    if uses_mysqlclient():
        pytest.skip("mysqlclient waits in C")

    def prepare(method: str) -> None:
        connection_class: Any = mysql_driver().connections.Connection
        original = getattr(connection_class, method)

        def interrupted(*args: Any, **kwargs: Any) -> None:
            monkeypatch.setattr(connection_class, method, original)
            raise Interrupted

        monkeypatch.setattr(connection_class, method, interrupted)

    return prepare


@pytest.mark.parametrize("statement", ["SELECT SLEEP(0.2), 'theirs'", "SELECT nothing"])
def test_an_interrupted_statement_does_not_answer_the_next_lease(
    mariadb: MariaDatabase, interrupt_before: Callable[[str], None], statement: str
) -> None:
    """Its answer comes later than the liveness test of the next lease."""
    wrapper = mariadb.wrapper()
    first = mariadb.session(wrapper)
    interrupt_before("_read_query_result")
    with pytest.raises(Interrupted):
        mariadb.value(wrapper, statement)
    wrapper.close()
    assert mariadb.value(wrapper, "SELECT 'ours'") == "ours"
    assert mariadb.session(wrapper) != first


def test_an_interrupted_commit_does_not_answer_the_next_lease(
    mariadb: MariaDatabase, interrupt_before: Callable[[str], None]
) -> None:
    wrapper = mariadb.wrapper()
    first = mariadb.session(wrapper)
    wrapper.set_autocommit(False)
    interrupt_before("_read_ok_packet")
    with pytest.raises(Interrupted):
        wrapper.commit()
    wrapper.close()
    assert mariadb.value(wrapper, "SELECT 'ours'") == "ours"
    assert mariadb.session(wrapper) != first


def test_a_transaction_whose_statement_was_interrupted_ends(
    mariadb: MariaDatabase, interrupt_before: Callable[[str], None]
) -> None:
    """Its rollback would be confirmed by the statement's answer, and all others be one late."""
    mariadb.execute("CREATE TABLE item (n integer)")
    wrapper = mariadb.wrapper()

    def work() -> None:
        with transaction.atomic(using="interrupted"), wrapper.cursor() as cursor:
            cursor.execute("INSERT INTO item VALUES (1)")
            interrupt_before("_read_query_result")
            cursor.execute("INSERT INTO item VALUES (2)")

    with mariadb.known_as("interrupted", wrapper), pytest.raises(Interrupted):
        work()
    assert mariadb.value(wrapper, "SELECT count(*) FROM item") == 0
    wrapper.close()
    assert mariadb.value(wrapper, "SELECT 'ours'") == "ours"


def test_an_error_of_the_server_is_an_answer(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper()
    first = mariadb.session(wrapper)
    with pytest.raises(Error):
        mariadb.value(wrapper, "SELECT nothing FROM nowhere")
    assert mariadb.session(wrapper) == first
    wrapper.close()
    assert mariadb.session(wrapper) == first


@pytest.mark.parametrize(
    "act",
    [
        lambda raw: raw.select_db(raw.db),
        lambda raw: raw.set_character_set("utf8mb4"),
        lambda raw: raw.show_warnings(),
        lambda raw: raw.ping(),
        lambda raw: raw.rollback(),
    ],
    ids=["select_db", "set_character_set", "show_warnings", "ping", "rollback"],
)
def test_the_drivers_own_commands_are_answered(
    mariadb: MariaDatabase, act: Callable[[Any], object]
) -> None:
    wrapper = mariadb.wrapper()
    first = mariadb.session(wrapper)
    act(wrapper.connection)
    assert not wrapper.connection.pooling_unread
    wrapper.close()
    assert mariadb.session(wrapper) == first


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_a_statement_that_runs_in_another_thread_is_ended(mariadb: MariaDatabase, how: str) -> None:
    """mysqlclient 2.3 lets no other thread ask its connection anything meanwhile."""
    wrapper = mariadb.wrapper()
    wrapper.inc_thread_sharing()
    session = mariadb.session(wrapper)
    driver = wrapper.resolve_pool()._driver

    def sleep() -> Any:
        return mariadb.value(wrapper, "SELECT SLEEP(60)")

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(sleep)
        state = f"SELECT state FROM information_schema.processlist WHERE id = {session}"
        eventually(lambda: mariadb.server.execute(state) == [("User sleep",)])
        getattr(driver, how)(wrapper.connection)
        # MySQL's SLEEP answers 1 when it is interrupted.
        assert isinstance(future.exception(PATIENCE), Error) or future.result() == 1
    if how == "cancel":
        assert mariadb.session(wrapper) == session


def test_cancel_and_terminate(mariadb: MariaDatabase) -> None:
    wrapper = mariadb.wrapper()
    session = mariadb.session(wrapper)
    driver = wrapper.resolve_pool()._driver
    raw = wrapper.connection
    in_thread(lambda: driver.terminate(raw))
    with pytest.raises(Error):
        mariadb.session(wrapper)
    wrapper.close()
    assert mariadb.session(wrapper) != session
