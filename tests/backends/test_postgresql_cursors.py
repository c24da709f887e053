"""Server-side cursors that are closed late: by the garbage collector, in another lease."""

from __future__ import annotations

import gc
import os
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction

from tests.support.databases import PATIENCE, eventually, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.conftest import Thing
    from tests.support.databases import PostgresDatabase

ROWS = 500
SMALL = {"max_size": 1, "timeout": 10}
RESETS = pytest.mark.parametrize("reset", ["rollback", "session", "always"])


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """The tests say when garbage is collected."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture
def model(
    postgresql: PostgresDatabase, things: Callable[[PostgresDatabase], type[Thing]]
) -> type[Thing]:
    """A table with more rows than an iterator reads at once."""
    model = things(postgresql)
    postgresql.execute(
        "INSERT INTO backends_thing (name) "
        f"SELECT 'thing ' || number FROM generate_series(1, {ROWS}) AS number"
    )
    return model


def ends(function: Callable[[], object]) -> bool:
    """Call `function` in a thread that may hang; return whether it came back."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # shown below, in the thread of the test
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE / 2)
    if failures:
        raise failures[0]
    return not thread.is_alive()


class Collecting:
    """A parameter of a query that, as it is adapted, runs the garbage collector.

    psycopg 3 holds the connection's lock meanwhile.
    """

    def __conform__(self, _protocol: object) -> Collecting:  # psycopg2
        return self

    def getquoted(self) -> bytes:
        gc.collect()
        return b"1"


def query_and_collect(raw: Any) -> None:
    """Run a query, and the garbage collector in the middle of it."""
    if hasattr(raw, "adapters"):
        base: Any = import_module("psycopg.adapt").Dumper

        class Dumper(base):
            def dump(self, _value: object) -> bytes:
                gc.collect()
                return b"1"

        raw.adapters.register_dumper(Collecting, Dumper)
    with raw.cursor() as cursor:
        cursor.execute("SELECT %s", [Collecting()])
        assert cursor.fetchone() is not None


def half_read_iterator(wrapper: Any, model: type[Thing]) -> Iterator[Any]:
    iterator = model.objects.using("pooled").iterator(chunk_size=10)
    next(iterator)
    return iterator


def half_read_raw_cursor(wrapper: Any, model: type[Thing]) -> Iterator[Any]:
    def read() -> Iterator[Any]:
        arguments = {"withhold": True} if wrapper.get_autocommit() else {}
        with wrapper.connection.cursor(name="mine", **arguments) as cursor:
            cursor.itersize = 10
            cursor.execute("SELECT name FROM backends_thing")
            yield from cursor

    wrapper.ensure_connection()
    rows = read()
    next(rows)
    return rows


def into_a_cycle(value: object) -> None:
    """Make garbage of it that only the collector finds."""
    cycle = [value]
    cycle.append(cycle)  # type: ignore[arg-type]


HALF_READ = pytest.mark.parametrize(
    "half_read",
    # psycopg2's own class of connections cannot be told to remember what cursors it makes.
    [half_read_iterator]
    if os.environ.get("TEST_DRIVER") == "psycopg2"
    else [half_read_iterator, half_read_raw_cursor],
)


@RESETS
@HALF_READ
@pytest.mark.parametrize("in_query", [True, False])
def test_a_cursor_collected_in_a_later_lease_stops_nothing(
    postgresql: PostgresDatabase,
    model: type[Thing],
    reset: str,
    half_read: Callable[..., Any],
    in_query: bool,
) -> None:
    """Scenario 57: psycopg's `close` waits for the lock, which its own thread may hold."""

    def work() -> None:
        wrapper = connections["pooled"]
        into_a_cycle(half_read(wrapper, model))
        wrapper.close()
        with transaction.atomic(using="pooled"):
            model.objects.using("pooled").create(name="kept")
            if in_query:
                query_and_collect(wrapper.connection)
            else:
                gc.collect()
            model.objects.using("pooled").create(name="kept as well")
        wrapper.close()

    with postgresql.alias("pooled", pool={**SMALL, "reset": reset}) as wrapper:
        assert ends(work), "the thread hangs in close()"
        assert model.objects.using("pooled").count() == ROWS + 2
        assert wrapper.resolve_pool().stats().connects == 1


@HALF_READ
def test_a_cursor_collected_in_a_query_of_its_own_lease_is_closed_by_the_release(
    postgresql: PostgresDatabase, model: type[Thing], half_read: Callable[..., Any]
) -> None:
    """Django's own backend hangs here, with psycopg 3."""

    def work() -> None:
        wrapper = connections["pooled"]
        into_a_cycle(half_read(wrapper, model))
        query_and_collect(wrapper.connection)
        wrapper.close()

    with postgresql.alias("pooled", pool=SMALL) as wrapper:
        assert ends(work), "the thread hangs in close()"
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_cursors WHERE is_holdable")
            assert cursor.fetchone() == (0,)
        assert wrapper.resolve_pool().stats().connects == 1


def test_a_cursor_with_bound_parameters_closes_at_once_as_well(
    postgresql: PostgresDatabase, model: type[Thing], psycopg2: bool
) -> None:
    """With this option Django has the connection make its server-side cursors."""
    options = {} if psycopg2 else {"server_side_binding": True}

    def work() -> None:
        wrapper = connections["pooled"]
        into_a_cycle(half_read_iterator(wrapper, model))
        wrapper.close()
        wrapper.ensure_connection()
        query_and_collect(wrapper.connection)
        wrapper.close()

    with postgresql.alias("pooled", pool=SMALL, OPTIONS=options):
        assert ends(work), "the thread hangs in close()"


@HALF_READ
def test_a_cursor_of_an_earlier_lease_does_not_wait_for_another_threads_query(
    postgresql: PostgresDatabase, model: type[Thing], half_read: Callable[..., Any]
) -> None:
    """The connection is another's, and busy as long as that one's query takes."""
    with postgresql.alias("pooled", pool=SMALL) as wrapper:
        rows = half_read(wrapper, model)
        wrapper.close()
        other = postgresql.wrapper(pool=SMALL)
        other.inc_thread_sharing()
        pid = postgresql.session(other)
        observer = postgresql.stock()
        with observer.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(1)")

        def wait() -> None:
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(1)")

        thread = threading.Thread(target=wait)
        thread.start()
        waiting = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'advisory'"
        try:
            eventually(lambda: postgresql.execute(waiting))
            assert ends(rows.close), "close() waits"
            assert postgresql.execute(waiting), "for the query that still runs"
        finally:
            observer.close()
            thread.join(PATIENCE)
        other.close()


@RESETS
def test_a_cursor_of_a_thread_that_ended_leaves_the_next_owner_alone(
    postgresql: PostgresDatabase, model: type[Thing], reset: str
) -> None:
    """Its CLOSE would end the next owner's transaction, for the cursor does not exist."""
    kept: list[Any] = []

    def end_in_a_transaction() -> None:
        connections["pooled"].set_autocommit(False)
        kept.append(half_read_iterator(connections["pooled"], model))

    with postgresql.alias("pooled", pool={**SMALL, "reset": reset}) as wrapper:
        in_thread(end_in_a_transaction)
        with transaction.atomic(using="pooled"):
            model.objects.using("pooled").create(name="new")
            kept.pop().close()
            assert model.objects.using("pooled").count() == ROWS + 1
        assert wrapper.resolve_pool().stats().connects == 1


def test_a_closed_cursor_says_nothing_to_the_server(
    postgresql: PostgresDatabase, model: type[Thing], psycopg2: bool
) -> None:
    """Not even `scroll` and `execute`, which psycopg 3 sends a statement for before it looks."""
    wrapper = postgresql.wrapper(pool=SMALL)
    cursor = wrapper.chunked_cursor()
    cursor.execute("SELECT name FROM backends_thing")
    cursor.fetchone()
    wrapper.close()
    with wrapper.cursor() as other:
        other.execute("BEGIN")
        for use in (
            *(() if psycopg2 else (lambda: cursor.cursor.scroll(1),)),
            cursor.cursor.fetchone,
            lambda: cursor.cursor.fetchmany(2),
            cursor.cursor.fetchall,
            lambda: next(iter(cursor.cursor)),
            *(() if psycopg2 else (lambda: cursor.cursor.execute("SELECT 1"),)),
        ):
            with pytest.raises(wrapper.Database.InterfaceError, match="closed"):
                use()
        cursor.cursor.close()
        other.execute("SELECT 1")
        other.execute("COMMIT")


def test_a_named_cursor_made_in_any_way_marks_the_session(postgresql: PostgresDatabase) -> None:
    """What its statement calls was not seen: `reset="session"` restores the session."""
    wrapper = postgresql.wrapper(pool={**SMALL, "reset": "session"})
    changing = "SELECT set_config('statement_timeout', '1234', false)"
    wrapper.ensure_connection()
    for make in (
        wrapper.chunked_cursor,
        lambda: wrapper.create_cursor("mine"),
        lambda: wrapper.connection.cursor("mine", withhold=True),
    ):
        wrapper.ensure_connection()
        cursor = make()
        cursor.execute(changing)
        cursor.fetchall()
        cursor.close()
        wrapper.close()
        with wrapper.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)
        wrapper.close()


def test_many_iterators_of_one_lease_are_not_remembered(
    postgresql: PostgresDatabase, model: type[Thing], psycopg2: bool
) -> None:
    with postgresql.alias("pooled", pool=SMALL) as wrapper:
        for _ in range(300):
            assert next(model.objects.using("pooled").iterator(chunk_size=10))
        if psycopg2:
            (remembered,) = wrapper.resolve_pool()._driver._named_cursors.values()
        else:
            remembered = wrapper.connection.pooling_server_cursors
        assert len(remembered) < 150
