"""The contract of both backends: transactions within a lease, and none beyond it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import (
    DatabaseError,
    Error,
    IntegrityError,
    OperationalError,
    connections,
    transaction,
)
from django.db.transaction import TransactionManagementError

from pooling import DiscardReason
from tests.support.databases import Database, eventually, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

    from tests.backends.conftest import Thing
    from tests.support.databases import PostgresDatabase


class Table:
    """`Thing` through one alias; what another session sees of it is asked past Django."""

    def __init__(self, database: Database, wrapper: BaseDatabaseWrapper, model: type[Thing]):
        self.database = database
        self.wrapper = wrapper
        self.model = model

    def add(self, name: str) -> None:
        self.model.objects.using("pooled").create(name=name)

    def committed(self) -> set[str]:
        return {name for (name,) in self.database.execute("SELECT name FROM backends_thing")}


@pytest.fixture
def table(database: Database, things: Callable[[Database], type[Thing]]) -> Iterator[Table]:
    with database.alias("pooled", pool={"max_size": 1, "timeout": 10}) as wrapper:
        yield Table(database, wrapper, things(database))


def atomic(**options: Any) -> transaction.Atomic:
    return transaction.atomic(using="pooled", **options)


def test_atomic_commits_and_rolls_back(table: Table) -> None:
    with atomic():
        table.add("kept")
    with pytest.raises(ZeroDivisionError), atomic():  # noqa: PT012 - leaving the block raises
        table.add("lost")
        raise ZeroDivisionError
    assert table.committed() == {"kept"}


def test_nested_atomic_rolls_back_to_its_savepoint(table: Table) -> None:
    """scenario 53: `atomic` nested."""
    with atomic():
        table.add("outer")
        with pytest.raises(IntegrityError), atomic():  # noqa: PT012 - leaving the block raises
            table.add("inner")
            table.add("outer")
        with atomic(savepoint=False):
            table.add("joined")
        assert table.committed() == set()
    assert table.committed() == {"outer", "joined"}


def test_savepoints_by_hand(table: Table) -> None:
    """scenario 53: savepoints."""
    # The latter is its name before Django 6.1.
    create = getattr(transaction, "savepoint_create", None) or transaction.savepoint
    with atomic():
        table.add("before")
        savepoint = create(using="pooled")
        table.add("after")
        transaction.savepoint_rollback(savepoint, using="pooled")
        savepoint = create(using="pooled")
        table.add("later")
        transaction.savepoint_commit(savepoint, using="pooled")
    assert table.committed() == {"before", "later"}


def test_on_commit_runs_after_the_commit_and_not_after_a_rollback(table: Table) -> None:
    """scenario 53: `on_commit`."""
    seen: list[Any] = []
    with atomic():
        table.add("one")
        transaction.on_commit(lambda: seen.append(table.committed()), using="pooled")
        assert seen == []
    assert seen == [{"one"}]
    with pytest.raises(ZeroDivisionError), atomic():  # noqa: PT012 - leaving the block raises
        transaction.on_commit(lambda: seen.append("never"), using="pooled")
        raise ZeroDivisionError
    assert len(seen) == 1


def test_on_commit_of_a_transaction_cut_off_by_close_is_forgotten(table: Table) -> None:
    """trap 6: hooks of an abandoned transaction do not run in the next lease's."""
    with atomic():
        table.add("lost")
        transaction.on_commit(lambda: pytest.fail("ran"), using="pooled")
        table.wrapper.close()
    with atomic():
        table.add("two")
    assert table.committed() == {"two"}
    assert table.wrapper.run_on_commit == []


def test_durable_atomic_must_be_outermost(table: Table) -> None:
    """scenario 53: `durable`."""
    with atomic(durable=True):
        table.add("one")
        with pytest.raises(RuntimeError, match="durable"), atomic(durable=True):
            pass
    table.wrapper.close()
    with atomic(durable=True):
        table.add("two")
    assert table.committed() == {"one", "two"}


def test_close_inside_atomic_ends_the_session_and_frees_its_place(table: Table) -> None:
    """trap 6: `close()` in a block leaves nothing that could still be used, or reused."""
    with pytest.raises(Error), atomic():  # noqa: PT012 - leaving the block raises
        table.add("lost")
        raw = table.wrapper.connection
        table.wrapper.close()
        assert table.wrapper.closed_in_transaction
        with pytest.raises(Exception, match=r"closed|\(0, ''\)|2006"):  # PyMySQL, mysqlclient
            raw.cursor().execute("SELECT 1")
        table.add("not possible")
    pool = table.wrapper.resolve_pool()
    assert pool.stats().leased == 0
    assert table.wrapper.connection is None
    assert table.committed() == set()
    # The pool has one place: it must be free again.
    table.add("next")
    assert table.wrapper.connection is not raw
    assert table.committed() == {"next"}
    assert pool.stats().discards[DiscardReason.BROKEN] == 1


def test_leaving_atomic_quietly_after_close_gives_the_place_back(table: Table) -> None:
    """trap 7: `Atomic.__exit__` sets `connection` to None without closing."""
    with atomic():
        table.add("lost")
        table.wrapper.close()
    assert table.wrapper.connection is None
    assert table.wrapper.resolve_pool().stats().leased == 0
    eventually(lambda: not table.database.sessions())
    table.add("next")
    assert table.committed() == {"next"}


def test_a_connection_taken_away_from_the_wrapper_gives_its_place_back(table: Table) -> None:
    """trap 7: somebody sets `connection.connection = None`; nobody knows in what state it is."""
    table.wrapper.ensure_connection()
    raw = table.wrapper.connection
    table.wrapper.connection = None
    table.add("next")
    assert table.wrapper.connection is not raw
    stats = table.wrapper.resolve_pool().stats()
    assert (stats.leased, stats.discards[DiscardReason.BROKEN]) == (1, 1)


def test_a_failed_rollback_discards_the_connection(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trap 7: after a failed rollback Django calls `close()`, and means it."""
    table.wrapper.ensure_connection()
    raw = table.wrapper.connection
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError), atomic():  # noqa: PT012
        # The connection looks healthy all the same: only the wrapper knows.
        patch.setattr("django.db.backends.base.base.BaseDatabaseWrapper._rollback", _fail)
        raise ZeroDivisionError
    table.add("next")
    assert table.wrapper.connection is not raw
    stats = table.wrapper.resolve_pool().stats()
    assert (stats.leased, stats.discards[DiscardReason.BROKEN]) == (1, 1)
    eventually(lambda: len(table.database.sessions()) == 1)


def _fail(wrapper: BaseDatabaseWrapper) -> None:
    raise OperationalError("the rollback failed")


def test_a_transaction_on_a_connection_that_breaks_is_over(table: Table) -> None:
    """trap 7: a real failure of the rollback, and the next request works."""
    with pytest.raises(DatabaseError), atomic():  # noqa: PT012 - leaving the block raises
        table.add("lost")
        raw = table.wrapper.connection
        table.database.break_connection(table.wrapper)
        table.add("not possible")
    table.add("next")
    assert table.wrapper.connection is not raw
    assert table.committed() == {"next"}
    eventually(lambda: len(table.database.sessions()) == 1)


@pytest.mark.parametrize("work", ["nothing", "read", "written", "failed"])
def test_autocommit_false_does_not_reach_the_next_lease(table: Table, work: str) -> None:
    """trap 9: whatever the user's transaction was doing when the lease ended."""
    table.wrapper.ensure_connection()
    raw = table.wrapper.connection
    table.wrapper.set_autocommit(False)
    if work == "read":
        assert not table.model.objects.using("pooled").exists()
    elif work == "written":
        table.add("lost")
    elif work == "failed":
        table.add("lost")
        with pytest.raises(IntegrityError):
            table.add("lost")
    table.wrapper.close()
    # As soon as it is released: no lock is held, and no transaction is left open at the server.
    assert table.committed() == set()
    table.database.execute("INSERT INTO backends_thing (name) VALUES ('by another')")
    assert table.wrapper.get_autocommit() is True
    table.add("next")
    assert table.wrapper.connection is raw
    assert table.committed() == {"by another", "next"}


def test_a_transaction_begun_by_hand_does_not_reach_the_next_lease(table: Table) -> None:
    """trap 9: Django does not know of a BEGIN in a cursor; the connection does."""
    with table.wrapper.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO backends_thing (name) VALUES ('lost')")
    raw = table.wrapper.connection
    table.wrapper.close()
    assert table.committed() == set()
    table.add("next")
    assert table.committed() == {"next"}
    assert table.wrapper.connection is raw


def test_after_an_error_in_autocommit_the_connection_is_looked_at_and_kept(table: Table) -> None:
    """trap 9: an ordinary error is no reason to connect anew."""
    table.add("one")
    raw = table.wrapper.connection
    with pytest.raises(DatabaseError), table.wrapper.cursor() as cursor:
        cursor.execute("SELECT * FROM there_is_no_such_table")
    assert table.wrapper.errors_occurred
    table.wrapper.close()
    table.add("two")
    assert table.wrapper.connection is raw


def test_after_an_error_that_broke_the_connection_it_is_not_kept(table: Table) -> None:
    """trap 9: look before keeping, if errors occurred."""
    table.add("one")
    table.database.break_connection(table.wrapper)
    with pytest.raises(DatabaseError):
        table.add("two")
    table.wrapper.close()
    assert table.wrapper.resolve_pool().stats().idle == 0
    table.add("two")
    assert table.committed() == {"one", "two"}


def test_a_broken_transaction_refuses_queries_until_its_end_and_no_longer(table: Table) -> None:
    with atomic():
        transaction.set_rollback(True, using="pooled")
        with pytest.raises(TransactionManagementError):
            table.add("refused")
    table.wrapper.close()
    table.add("next")
    assert table.committed() == {"next"}


def test_a_wrapper_of_a_closed_request_begins_without_a_trace(table: Table) -> None:
    """trap 6: the state of an abandoned block does not reach the next lease."""
    block = atomic()
    block.__enter__()
    table.wrapper.close()
    block.__exit__(None, None, None)
    assert not table.wrapper.in_atomic_block
    with atomic():
        table.add("next")
        assert len(table.wrapper.savepoint_ids) == 0
    assert not table.wrapper.closed_in_transaction
    assert table.committed() == {"next"}


def test_select_for_update_locks_until_its_transaction_ends(
    postgresql: PostgresDatabase, things: Callable[[Database], type[Thing]]
) -> None:
    """scenario 53: it does so in a lease of its own, and not beyond it."""
    with postgresql.alias("pooled", pool={"max_size": 2, "timeout": 10}) as wrapper:
        model = things(postgresql)
        model.objects.using("pooled").create(name="wanted")
        rows = model.objects.using("pooled").select_for_update(nowait=True)

        def lock() -> str:
            try:
                with atomic():
                    return rows.get().name
            except OperationalError:
                return "locked by another"
            finally:
                connections["pooled"].close()

        with atomic():
            assert rows.get().name == "wanted"
            assert in_thread(lock) == "locked by another"
            wrapper.close()  # in the midst of the transaction
        eventually(lambda: in_thread(lock) == "wanted")


def test_close_all_gives_back_what_this_thread_holds(database: Database) -> None:
    """scenario 53: `connections.close_all()`, and everybody goes on."""
    with database.alias("pooled", pool={"name": "one"}) as one, database.alias("other") as other:
        assert database.session(one) is not None
        assert database.session(other) is not None
        pools = one.resolve_pool(), other.resolve_pool()
        assert [pool.stats().leased for pool in pools] == [1, 1]
        connections.close_all()
        assert [(pool.stats().leased, pool.stats().idle) for pool in pools] == [(0, 1), (0, 1)]
        assert database.session(one) is not None
