"""Where a benchmark takes place: databases that it makes for itself, one for each contender.

That keeps it out of everybody's data, and it makes the server's books readable: whatever happened
in such a database was done by that contender.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler

from .connection_counter import Lookout, PostgresCensus
from .contenders import POSTGRESQL, SIMULATED, SQLITE
from .users import KNOWN, TABLE, BenchUser, known_users
from .adapters.orm import plain_entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERVER_SETTINGS = (
    "max_connections",
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "ssl",
    "scram_iterations",
    "io_method",
)
FILE_SETTINGS = ("journal_mode", "synchronous")


class ArenaError(RuntimeError):
    """The benchmark cannot take place here, or could not clean up; the message says what to do."""


class Arena(ABC):
    """A place for new databases of one vendor.

    Args:
        base: the `DATABASES` entry that says where; the database it names is left alone.
    """

    vendor: str
    title: str

    def __init__(self, base: Mapping[str, Any]) -> None:
        self.base = {key: value for key, value in base.items() if key != "TEST"}

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Return the version and the settings that matter, by name."""

    @abstractmethod
    def new_database(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """Make an empty database, and remove it at the end. The value is its `DATABASES` entry."""

    def census_of(self, entry: Mapping[str, Any]) -> PostgresCensus | None:  # noqa: ARG002
        """Return what counts the connections to a database, if the server does so."""
        return None

    def prepare(self, entry: dict[str, Any]) -> None:
        """Make the table of users in a database made by `new_database`."""
        settings = plain_entry(self.vendor, entry)
        with temporary_alias("poolbench_setup", settings) as alias:
            create_table(alias)

    def clear(self, entry: dict[str, Any]) -> None:
        """Remove the users that a workload has left behind."""
        settings = plain_entry(self.vendor, entry)
        with temporary_alias("poolbench_setup", settings) as alias:
            BenchUser.objects.using(alias).filter(pk__gt=KNOWN).delete()


class SqliteArena(Arena):
    """New SQLite files: beside the base's file, or in a folder for temporary files."""

    vendor = SQLITE
    title = "SQLite"

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__(base)
        name = str(base.get("NAME", ""))
        if name.startswith("file:") or ":memory:" in name:
            raise ArenaError(f"no place for new files beside {name!r}: it is not a file itself")
        self._folder = Path(name).resolve().parent if name else temporary_folder()

    def describe(self) -> dict[str, str]:
        found = {"version": sqlite3.sqlite_version, "folder": str(self._folder)}
        with self.new_database() as entry:
            settings = plain_entry(self.vendor, entry)
            with temporary_alias("poolbench_setup", settings) as alias:
                for name in FILE_SETTINGS:
                    with connections[alias].cursor() as cursor:
                        cursor.execute(f"PRAGMA {name}")
                        [value] = cursor.fetchone()
                        found[name] = str(value)
        return found

    @contextlib.contextmanager
    def new_database(self) -> Iterator[dict[str, Any]]:
        try:
            folder = tempfile.TemporaryDirectory(prefix="poolbench-", dir=self._folder)
        except OSError as error:
            raise ArenaError(f"no new folder could be made in {self._folder}: {error}") from error
        with folder as path:
            yield {**self.base, "NAME": str(Path(path, "poolbench.sqlite3"))}


class PostgresArena(Arena):
    """New databases on a PostgreSQL server, whose user has to be allowed to create them."""

    vendor = POSTGRESQL
    title = "PostgreSQL"

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__(base)
        settings = plain_entry(self.vendor, self.base)
        self._server = ConnectionHandler({DEFAULT_DB_ALIAS: settings})
        self._lookout = Lookout(self._disconnect)

    def describe(self) -> dict[str, str]:
        [[version]] = self.execute("SHOW server_version")
        names = ", ".join(f"'{name}'" for name in SERVER_SETTINGS)
        settings = self.execute(
            "SELECT name, current_setting(name) FROM pg_settings"  # noqa: S608
            f" WHERE name IN ({names}) ORDER BY name"
        )
        return {"version": version.split()[0], **dict(settings)}

    def execute(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        """Run a statement on the base's own database and return its rows, if it has any."""
        with self._server[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Close the connections to the base's own database."""
        self._lookout.close()
        self._disconnect()

    def _disconnect(self) -> None:
        """Close this thread's connection."""
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
            self._disconnect()  # whatever has happened to it, a new connection is a better start
            try:
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")
            except DatabaseError as error:
                raise ArenaError(
                    f"the database {name} could not be removed, please do: {error}"
                ) from error

    def census_of(self, entry: Mapping[str, Any]) -> PostgresCensus:
        return PostgresCensus(self, entry["NAME"], self._lookout)


class SimulatedArena(Arena):
    """Nowhere: contenders bring their simulated databases with them."""

    vendor = SIMULATED
    title = "simulated"

    def __init__(self) -> None:
        super().__init__({})

    def describe(self) -> dict[str, str]:
        return {}

    @contextlib.contextmanager
    def new_database(self) -> Iterator[dict[str, Any]]:
        yield {}

    def prepare(self, entry: dict[str, Any]) -> None:
        """There is no table."""

    def clear(self, entry: dict[str, Any]) -> None:
        """There is no table."""


def temporary_folder(memory: Path = Path("/dev/shm")) -> Path:  # noqa: S108
    """Return where files may be made that are gone after a while: in memory, if that is possible.

    The private PostgreSQL does without the disk, too: waiting for it says nothing of connections.
    Whoever sets TMPDIR has decided otherwise.
    """
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK | os.X_OK):
        return memory
    return Path(tempfile.gettempdir())


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
    """Make the table and the known users; refuse if there is one that somebody else made."""
    connection = connections[alias]
    if TABLE in connection.introspection.table_names():
        raise ArenaError(
            f"{connection.settings_dict['NAME']} has a table {TABLE} that this run did not make; "
            "it was not touched"
        )
    with connection.schema_editor() as editor:
        editor.create_model(BenchUser)
    users = [BenchUser(**fields) for fields in known_users()]
    BenchUser.objects.using(alias).bulk_create(users)
