"""Where a benchmark takes place: databases that it makes for itself, one for each contender.

That keeps it out of everybody's data, and it makes the server's books readable: whatever happened
in such a database was done by that contender.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from django.db import DatabaseError, connections
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler

from .census import Census, PostgresCensus, SqliteCensus
from .contenders import STOCK
from .workloads import BenchUser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .contenders import Contender


class ArenaError(RuntimeError):
    """The benchmark cannot take place here, or could not clean up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Side:
    """A contender at its own database.

    Attributes:
        contender: who it is.
        alias: Django's alias for its database, valid while the side is open.
        census: how many connections it makes; complete when the side is closed.
    """

    contender: Contender
    alias: str
    census: Census


class Arena(ABC):
    """A place for new databases of one vendor.

    Args:
        base: the `DATABASES` entry that says where; the database it names is left alone.
    """

    vendor: str

    def __init__(self, base: Mapping[str, Any]) -> None:
        self.base = {key: value for key, value in base.items() if key != "TEST"}

    @property
    @abstractmethod
    def label(self) -> str:
        """What the database is, with its version."""

    @abstractmethod
    def new_database(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """Make an empty database, and remove it at the end. The value is its `DATABASES` entry."""

    @abstractmethod
    def new_census(self, entry: Mapping[str, Any]) -> Census:
        """Return what counts the connections to a database made by `new_database`."""

    @contextlib.contextmanager
    def open_side(self, contender: Contender, *, pool_size: int) -> Iterator[Side]:
        """Give a contender a new database with an empty table of users, and an alias for it."""
        with self.new_database() as entry:
            with temporary_alias("poolbench_setup", STOCK.settings(self.vendor, entry)) as alias:
                create_table(alias)
            census = self.new_census(entry)
            settings = contender.settings(self.vendor, entry, pool_size=pool_size)
            alias = f"poolbench_{contender.name}"
            with temporary_alias(alias, census.instrument(settings)), census:
                try:
                    yield Side(contender, alias, census)
                finally:
                    connections[alias].close()
                    contender.end(alias)


class SqliteArena(Arena):
    """New SQLite files: beside the base's file, or in the folder for temporary files."""

    vendor = "sqlite"

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__(base)
        name = str(base.get("NAME", ""))
        if name.startswith("file:") or ":memory:" in name:
            raise ArenaError(f"no place for new files beside {name!r}: it is not a file itself")
        self._folder = Path(name).resolve().parent if name else Path(tempfile.gettempdir())

    @property
    def label(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    @contextlib.contextmanager
    def new_database(self) -> Iterator[dict[str, Any]]:
        try:
            folder = tempfile.TemporaryDirectory(prefix="poolbench-", dir=self._folder)
        except OSError as error:
            raise ArenaError(f"no new folder could be made in {self._folder}: {error}") from error
        with folder as path:
            yield {**self.base, "NAME": str(Path(path, "poolbench.sqlite3"))}

    def new_census(self, entry: Mapping[str, Any]) -> Census:
        return SqliteCensus(entry.get("OPTIONS", {}).get("factory", sqlite3.Connection))


class PostgresArena(Arena):
    """New databases on a PostgreSQL server, whose user has to be allowed to create them."""

    vendor = "postgresql"

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__(base)
        self._server = ConnectionHandler({DEFAULT_DB_ALIAS: STOCK.settings(self.vendor, self.base)})

    @property
    def label(self) -> str:
        driver = cast("Any", self._server[DEFAULT_DB_ALIAS]).Database
        [[version]] = self.execute("SHOW server_version")
        return (
            f"PostgreSQL {version.split()[0]} with "
            f"{driver.__name__} {driver.__version__.split()[0]}"
        )

    def execute(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        """Run a statement on the base's own database and return its rows, if it has any."""
        with self._server[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Close this thread's connection to the base's own database."""
        self._server[DEFAULT_DB_ALIAS].close()

    @contextlib.contextmanager
    def new_database(self) -> Iterator[dict[str, Any]]:
        name = f"poolbench_{secrets.token_hex(6)}"
        try:
            # template0, because nobody can be connected to it, which would forbid the copy.
            self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        except DatabaseError as error:
            raise ArenaError(
                f"the benchmark works in databases of its own and could not create one: {error}"
            ) from error
        try:
            yield {**self.base, "NAME": name}
        finally:
            self.close()  # whatever has happened to it, a new connection is a better start
            try:
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")
            except DatabaseError as error:
                raise ArenaError(
                    f"the database {name} could not be removed, please do: {error}"
                ) from error

    def new_census(self, entry: Mapping[str, Any]) -> Census:
        return PostgresCensus(self, entry["NAME"])


@contextlib.contextmanager
def temporary_alias(alias: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Let all threads of this process use a database as `connections[alias]`, for a while."""
    if alias in connections.settings:
        raise ArenaError(f"DATABASES has an entry {alias!r}, a name that the benchmark needs")
    # A handler of its own adds what Django's wrappers expect to find in an entry.
    handler = ConnectionHandler({DEFAULT_DB_ALIAS: dict(settings)})
    connections.settings[alias] = handler.settings[DEFAULT_DB_ALIAS]
    try:
        yield alias
    finally:
        try:
            connections[alias].close()
            del connections[alias]
        finally:
            del connections.settings[alias]


def create_table(alias: str) -> None:
    """Make the table of users; refuse if there is one that somebody else made."""
    connection = connections[alias]
    table = BenchUser._meta.db_table  # noqa: SLF001 - public by Django's documentation
    if table in connection.introspection.table_names():
        raise ArenaError(
            f"{connection.settings_dict['NAME']} has a table {table} that this run did not make; "
            "it was not touched"
        )
    with connection.schema_editor() as editor:
        editor.create_model(BenchUser)
