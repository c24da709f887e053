"""Random requests of 8 threads on 2 connections see what they would see on their own connections.

Each thread has rows, settings, locks and tables of its own, so that its results do not depend on
what the others do: unless something of another lease's session reaches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, Error, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.databases import MARIADB_SLOW, PATIENCE, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.conftest import Thing
    from tests.support.databases import Database

THREADS, CONNECTIONS = 8, 2
POOL = {"scope": "transaction", "max_size": CONNECTIONS, "timeout": PATIENCE}


class Client:
    """One thread's view of a database; each method is a step of a request and returns a result."""

    def __init__(self, alias: str, model: type[Thing], number: int) -> None:
        self.alias = alias
        self.model = model
        self.number = number
        self.added = 0

    @property
    def wrapper(self) -> Any:
        return connections[self.alias]

    @property
    def own(self) -> Any:
        return self.model.objects.using(self.alias).filter(name__startswith=f"{self.number}:")

    def run(self, *statements: str) -> Any:
        with self.wrapper.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    # ---- every engine ------------------------------------------------------------------------

    def add(self) -> Any:
        self.added += 1
        return self.model.objects.using(self.alias).create(name=f"{self.number}:{self.added}").name

    def count(self) -> Any:
        return self.own.count()

    def read(self) -> Any:
        return [thing.name for thing in self.own.order_by("pk")]

    def read_in_part(self) -> Any:
        iterator = self.own.order_by("pk").iterator(chunk_size=1)
        return [next(iterator, None) and "found", self.count()]

    def iterate(self) -> Any:
        return [(thing.name, self.own.count()) for thing in self.own.order_by("pk").iterator()]

    def commit(self) -> Any:
        seen: list[Any] = []
        with transaction.atomic(using=self.alias):
            self.add()
            transaction.on_commit(lambda: seen.append(self.count()), using=self.alias)
            with transaction.atomic(using=self.alias):
                seen.append(self.add())
        return seen

    def roll_back(self) -> Any:
        try:
            with transaction.atomic(using=self.alias):
                self.add()
                raise ZeroDivisionError
        except ZeroDivisionError:
            return self.count()

    def roll_back_to_savepoint(self) -> Any:
        with transaction.atomic(using=self.alias):
            self.add()
            try:
                with transaction.atomic(using=self.alias):
                    self.model.objects.using(self.alias).create(name=f"{self.number}:{self.added}")
            except DatabaseError as error:
                return type(error).__name__, self.count()

    def lock_rows(self) -> Any:
        with transaction.atomic(using=self.alias):
            return [thing.name for thing in self.own.select_for_update().order_by("pk")]

    def transaction_by_statements(self) -> Any:
        self.run("BEGIN")
        self.add()
        found = self.count()
        self.run("ROLLBACK")
        return found, self.count()

    def fail(self) -> Any:
        return self.run("SELECT nothing FROM nowhere")

    def delete(self) -> Any:
        return self.own.delete()[0]

    def make_temporary_table(self) -> Any:
        self.run(f"CREATE TEMPORARY TABLE mine AS SELECT {self.number} AS number")
        return self.run("SELECT number FROM mine")

    def read_temporary_table(self) -> Any:
        return self.run("SELECT number FROM mine")

    def end_request(self) -> Any:
        self.wrapper.close_if_unusable_or_obsolete()


class PostgresClient(Client):
    def set(self) -> Any:
        self.run(f"SET statement_timeout = {10_000 + self.number}")

    def set_by_function(self) -> Any:
        return self.run(f"SELECT set_config('statement_timeout', '{20_000 + self.number}', false)")

    def set_locally(self) -> Any:
        with transaction.atomic(using=self.alias):
            self.run(f"SET LOCAL statement_timeout = {30_000 + self.number}")
            return self.show()

    def show(self) -> Any:
        return self.run("SHOW statement_timeout")

    def lock(self) -> Any:
        self.run(f"SELECT pg_advisory_lock({self.number})")
        return self.locks()

    def locks(self) -> Any:
        return self.run(
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "
            "ORDER BY objid"
        )

    def prepare(self) -> Any:
        return self.run(f"PREPARE mine AS SELECT {self.number}", "EXECUTE mine")

    def execute(self) -> Any:
        return self.run("EXECUTE mine")

    def listen(self) -> Any:
        self.run(f"LISTEN channel_{self.number}")
        return self.run("SELECT pg_listening_channels()")

    def channels(self) -> Any:
        return self.run("SELECT pg_listening_channels()")

    def hold_cursor(self) -> Any:
        self.run(f"DECLARE mine CURSOR WITH HOLD FOR SELECT {self.number}")
        return self.run("FETCH mine")


class SqliteClient(Client):
    def set(self) -> Any:
        self.run(f"PRAGMA cache_size = {1000 + self.number}")

    def show(self) -> Any:
        return self.run("PRAGMA cache_size")

    def attach(self) -> Any:
        return self.run("ATTACH ':memory:' AS mine", "CREATE TABLE mine.of_mine (n)")

    def read_attached(self) -> Any:
        return self.run("SELECT count(*) FROM mine.of_mine")

    def register(self) -> Any:
        with self.wrapper.cursor() as cursor:
            number = self.number
            self.wrapper.connection.create_function("mine", 0, lambda: number)
            return cursor.execute("SELECT mine()").fetchall()

    def call(self) -> Any:
        return self.run("SELECT mine()")


class MySQLClient(Client):
    def set(self) -> Any:
        self.run(f"SET SESSION lock_wait_timeout = {10_000 + self.number}")

    def show(self) -> Any:
        return self.run("SELECT @@lock_wait_timeout")

    def set_variable(self) -> Any:
        self.run(f"SET @mine = {self.number}")

    def set_variable_in_query(self) -> Any:
        return self.run(f"SELECT @mine := {10 + self.number}")

    def read_variable(self) -> Any:
        return self.run("SELECT @mine")

    def lock(self) -> Any:
        return self.run(f"SELECT GET_LOCK(CONCAT(DATABASE(), {self.number}), 0)")

    def locks(self) -> Any:
        name = f"CONCAT(DATABASE(), {self.number})"
        return self.run(f"SELECT IS_USED_LOCK({name}) = CONNECTION_ID()")

    def lock_table(self) -> Any:
        self.run("LOCK TABLES backends_thing READ")
        found = self.count()
        self.run("UNLOCK TABLES")
        return found

    def prepare(self) -> Any:
        return self.run(f"PREPARE mine FROM 'SELECT {self.number}'", "EXECUTE mine")

    def execute(self) -> Any:
        return self.run("EXECUTE mine")

    def use(self) -> Any:
        return self.run("USE information_schema", "SELECT DATABASE()")


def steps_of(client: type[Client]) -> list[str]:
    names = {
        name for each in client.__mro__ for name, value in vars(each).items() if callable(value)
    }
    return sorted(name for name in names if not name.startswith("_") and name != "run")


def scripts(client: type[Client]) -> Any:
    return st.lists(
        st.lists(st.sampled_from(steps_of(client)), min_size=1, max_size=8),
        min_size=THREADS,
        max_size=THREADS,
    )


CLIENTS = {"postgresql": PostgresClient, "sqlite": SqliteClient, "mysql": MySQLClient}


@pytest.fixture
def compare(
    database: Database, things: Callable[[Database], type[Thing]]
) -> Iterator[Callable[[list[list[str]]], None]]:
    """A function that runs scripts without and with the pool, and compares all results."""
    model = things(database)
    client_class = CLIENTS[database.vendor]
    changes: dict[str, Any] = {}
    if database.vendor == "sqlite":
        changes["OPTIONS"] = {"timeout": PATIENCE, "transaction_mode": "IMMEDIATE"}

    def run(alias: str, scripts: list[list[str]]) -> list[list[Any]]:
        remaining = list(enumerate(scripts, 1))

        def work() -> tuple[int, list[Any]]:
            number, script = remaining.pop()
            client = client_class(alias, model, number)
            results: list[Any] = []
            try:
                for name in [*script, "end_request", "count"]:
                    try:
                        results.append((name, getattr(client, name)()))
                    except Error as error:
                        results.append((name, type(error).__name__))
            finally:
                connections[alias].close()
                del connections[alias]
            return number, results

        found = dict(in_threads(len(scripts), work))
        database.execute("DELETE FROM backends_thing")
        return [found[number] for number in sorted(found)]

    stock = database.stock(**changes)
    with (
        database.alias("scoped", pool=POOL, **changes) as wrapper,
        database.known_as("own", stock),
    ):

        def both(scripts: list[list[str]]) -> None:
            assert run("scoped", scripts) == run("own", scripts)
            stats = wrapper.resolve_pool().stats()
            assert stats.leased == 0
            assert stats.size <= CONNECTIONS

        yield both


@MARIADB_SLOW
def test_random_requests_see_what_they_would_see_alone(
    compare: Callable[[list[list[str]]], None], database: Database
) -> None:
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(scripts(CLIENTS[database.vendor]))
    def run(scripts: list[list[str]]) -> None:
        compare(scripts)

    run()


@pytest.mark.slow
def test_each_step_sees_what_each_other_has_left(
    compare: Callable[[list[list[str]]], None], database: Database
) -> None:
    """All pairs, one after the other in one request, and in two."""
    steps = steps_of(CLIENTS[database.vendor])
    for first in steps:
        script = [each for second in steps for each in (first, second, "end_request")]
        half = len(script) // 2
        compare([script[:half], script[half:], ["count"], ["add", "read"]])
