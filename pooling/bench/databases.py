"""The benchmark's own databases, one for each contender, made for the run and removed after it.

So no other data is touched, and the server's statistics of such a database are the contender's.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler, load_backend

from .adapters.base import MYSQL, POSTGRESQL, SIMULATED, SQLITE, mysql_driver
from .adapters.orm import STOCK_ENGINES, completed, plain_entry
from .connection_counter import ConnectionCounter
from .private_mariadb import MariaDBUnavailableError, PrivateMariaDB
from .private_postgres import PostgresUnavailableError, PrivatePostgres
from .private_server import ServerError
from .statements import KNOWN, TABLE, BenchUser, known_users

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERVER_SETTINGS = [
    *("max_connections", "shared_buffers", "fsync", "synchronous_commit", "ssl"),
    *("scram_iterations", "io_method"),
]
MYSQL_SETTINGS = [
    *("innodb_buffer_pool_size", "innodb_flush_log_at_trx_commit", "max_connections"),
    *("sync_binlog", "thread_handling"),
]
MYSQL_OPTIONS = {"pymysql": {"ssl_disabled": True}}
"""By default PyMySQL reads all certificate authorities for each connection, which takes more time
than everything else, also for a server without TLS, as the private one is."""
FILE_SETTINGS = ("journal_mode", "synchronous")
SPARE_CONNECTIONS = 50
SETUP_ALIAS = "poolbench_setup"


class SetupError(RuntimeError):
    """The benchmark cannot work here, or could not clean up; the message says what to do."""


class DatabaseProvider(ABC):
    """Makes new databases of one vendor, and removes them.

    Args:
        base: the `DATABASES` entry that says where; the database it names is left alone.
    """

    vendor: str
    title: str
    alias = project = ""
    """The project's alias and settings, if its own work is done there."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        self.base = {key: value for key, value in base.items() if key != "TEST"}

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Return the version and the settings that matter, by name."""

    @abstractmethod
    def new_database(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """Make an empty database, and remove it at the end. The value is its `DATABASES` entry."""

    def connection_counter(self, entry: Mapping[str, Any]) -> ConnectionCounter | None:  # noqa: ARG002
        """Return what counts the connections to a database, if the server does so."""
        return None

    def left_behind(self) -> dict[str, str]:
        """Return what runs that were killed have left here, and by which run it was made."""
        return {}

    def remove(self, name: str) -> None:
        """Remove something that was left behind."""
        raise NotImplementedError

    def prepare(self, entry: dict[str, Any]) -> None:
        """Make the table of users in a database made by `new_database`.

        Raises:
            SetupError: there is a table of that name already.
        """
        with self.setup_alias(entry) as alias:
            connection = connections[alias]
            if TABLE in connection.introspection.table_names():
                raise SetupError(
                    f"{entry['NAME']} has a table {TABLE} that this run did not make; "
                    "it was not touched"
                )
            with connection.schema_editor() as editor:
                editor.create_model(BenchUser)
            BenchUser.objects.using(alias).bulk_create(known_users())

    def clear(self, entry: dict[str, Any]) -> None:
        """Remove the users that a workload has left behind."""
        with self.setup_alias(entry) as alias:
            BenchUser.objects.using(alias).filter(pk__gt=KNOWN).delete()

    def setup_alias(self, entry: dict[str, Any]) -> contextlib.AbstractContextManager[str]:
        """Use a database through Django's own backend, as an alias; see `temporary_alias`."""
        return temporary_alias(SETUP_ALIAS, plain_entry(self.vendor, entry))


class SqliteProvider(DatabaseProvider):
    """New SQLite files: beside the base's file, or in a folder for temporary files."""

    vendor = SQLITE
    title = "SQLite"

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__(base)
        name = str(base.get("NAME", ""))
        if name.startswith("file:") or ":memory:" in name:
            raise SetupError(f"no place for new files beside {name!r}: it is not a file itself")
        self._folder = Path(name).resolve().parent if name else temporary_folder()

    def describe(self) -> dict[str, str]:
        found = {"version": sqlite3.sqlite_version, "folder": str(self._folder)}
        with self.new_database() as entry, self.setup_alias(entry) as alias:
            for name in FILE_SETTINGS:
                with connections[alias].cursor() as cursor:
                    cursor.execute(f"PRAGMA {name}")
                    found[name] = str(cursor.fetchone()[0])
        return found

    @contextlib.contextmanager
    def new_database(self) -> Iterator[dict[str, Any]]:
        try:
            folder = tempfile.TemporaryDirectory(
                prefix=f"poolbench-{os.getpid()}-", dir=self._folder
            )
        except OSError as error:
            raise SetupError(f"no new folder could be made in {self._folder}: {error}") from error
        with folder as path:
            yield {**self.base, "NAME": str(Path(path, "poolbench.sqlite3"))}

    def left_behind(self) -> dict[str, str]:
        found = {}
        for path in self._folder.glob("poolbench-*-*"):
            pid = path.name.split("-")[1]
            if pid.isdecimal() and not is_running(int(pid)):
                found[str(path)] = f"process {pid}"
        return found

    def remove(self, name: str) -> None:
        shutil.rmtree(name)


class ServerProvider(DatabaseProvider):
    """New databases on a server, whose user has to be allowed to create them."""

    creation: tuple[str, ...]
    """Statements that make a database `name` with a `mark`; see `this_run`."""
    removal: str
    marks: str
    """A query for the names and marks of the databases that were made."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__(base)
        settings = plain_entry(self.vendor, self.base)
        self._server = ConnectionHandler({DEFAULT_DB_ALIAS: settings})

    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the base's own database and return its rows, if it has any."""
        with self._server[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        """Close the connection to the base's own database."""
        self._server[DEFAULT_DB_ALIAS].close()

    @contextlib.contextmanager
    def new_database(self) -> Iterator[dict[str, Any]]:
        name = f"poolbench_{secrets.token_hex(6)}"
        try:
            for statement in self.creation:
                self.execute(statement.format(name=name, mark=this_run()))
        except DatabaseError as error:
            problem = "the benchmark works in databases of its own and could not create one"
            raise SetupError(f"{problem}: {error}") from error
        try:
            yield {**self.base, "NAME": name}
        finally:
            self.close()  # whatever state it is in
            try:
                self.remove(name)
            except DatabaseError as error:
                problem = f"the database {name} could not be removed, please do"
                raise SetupError(f"{problem}: {error}") from error

    def left_behind(self) -> dict[str, str]:
        return {name: mark for name, mark in self.execute(self.marks) if is_left_behind(mark)}

    def remove(self, name: str) -> None:
        self.execute(self.removal.format(name=name))


class PostgresProvider(ServerProvider):
    """New databases on a PostgreSQL server."""

    vendor = POSTGRESQL
    title = "PostgreSQL"
    creation = (
        # template0, because a session in the template would forbid the copy.
        "CREATE DATABASE {name} TEMPLATE template0",
        "COMMENT ON DATABASE {name} IS '{mark}'",
    )
    removal = 'DROP DATABASE "{name}" WITH (FORCE)'
    marks = (
        "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database "
        "WHERE datname LIKE 'poolbench%' AND shobj_description(oid, 'pg_database') <> ''"
    )

    def describe(self) -> dict[str, str]:
        [[version]] = self.execute("SHOW server_version")
        settings = self.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY 1",
            SERVER_SETTINGS,
        )
        return {"version": version.split()[0], **dict(settings)}

    def connection_counter(self, entry: Mapping[str, Any]) -> ConnectionCounter:
        return ConnectionCounter(self.execute, entry["NAME"])


class MySQLProvider(ServerProvider):
    """New databases on a MySQL or MariaDB server. Contenders count their connections themselves."""

    vendor = MYSQL
    title = "MySQL"
    # MySQL's databases have no comments, its tables have.
    creation = (
        "CREATE DATABASE {name} CHARACTER SET utf8mb4",
        "CREATE TABLE {name}.poolbench_run (id int) COMMENT '{mark}'",
    )
    removal = "DROP DATABASE `{name}`"
    marks = (
        "SELECT table_schema, table_comment FROM information_schema.tables "
        "WHERE table_schema LIKE 'poolbench%' AND table_name = 'poolbench_run'"
    )

    def describe(self) -> dict[str, str]:
        [[version]] = self.execute("SELECT version()")
        settings = self.execute(
            "SHOW GLOBAL VARIABLES WHERE variable_name IN %s", tuple(MYSQL_SETTINGS)
        )
        return {"version": version, **dict(settings)}


SERVER_PROVIDERS: dict[str, type[ServerProvider]] = {
    POSTGRESQL: PostgresProvider,
    MYSQL: MySQLProvider,
}


def this_run() -> str:
    """Return what a database is marked with: by which run it was made, and when."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"poolbench on {platform.node()}, process {os.getpid()}, {now}"


def is_left_behind(mark: str) -> bool:
    """Whether the run that a mark names is over, as far as this machine can tell."""
    found = re.fullmatch(r"poolbench on (.*), process (\d+), .*", mark)
    if found is None:
        return False
    return found[1] != platform.node() or not is_running(int(found[2]))


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class OwnProvider(DatabaseProvider):
    """The project's own database, for its own work: nothing is made there, and nothing removed."""

    def __init__(self, alias: str, project: str) -> None:
        super().__init__(connections.settings[alias])
        self.alias, self.project = alias, project
        self.vendor, self.title = vendor_of_alias(alias), connections[alias].display_name

    def describe(self) -> dict[str, str]:
        return {"alias": self.alias, "settings": self.project}

    def new_database(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        return contextlib.nullcontext(self.base)

    def prepare(self, entry: dict[str, Any]) -> None:
        """The project has its tables."""

    clear = prepare


class SimulatedProvider(DatabaseProvider):
    """No databases: contenders bring their simulated ones with them."""

    vendor = title = SIMULATED

    def __init__(self) -> None:
        super().__init__({})

    def describe(self) -> dict[str, str]:
        return {}

    def new_database(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        return contextlib.nullcontext({})

    def prepare(self, entry: dict[str, Any]) -> None:
        """There is no table."""

    clear = prepare


def temporary_folder(memory: Path = Path("/dev/shm")) -> Path:  # noqa: S108
    """Return the folder for temporary files: in memory if possible, unless TMPDIR is set.

    The private PostgreSQL does without the disk, too: waiting for it says nothing of connections.
    """
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK | os.X_OK):
        return memory
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def temporary_alias(alias: str, settings: dict[str, Any]) -> Iterator[str]:
    """Let all threads of this process use a database as `connections[alias]`, for a while."""
    if alias in connections.settings:
        raise SetupError(f"DATABASES has an entry {alias!r}, a name that the benchmark needs")
    connections.settings[alias] = completed(settings)
    try:
        yield alias
    finally:
        try:
            connections[alias].close()
            del connections[alias]
        finally:
            del connections.settings[alias]


# ---- from what the user asked for to a provider --------------------------------------------------


@contextlib.contextmanager
def private_provider(vendor: str, connections_needed: int = 50) -> Iterator[DatabaseProvider]:
    """Open a provider that needs nothing: a temporary folder, or a private server.

    Raises:
        SetupError: the driver or the server is missing, or does not work.
    """
    if vendor in (SIMULATED, SQLITE):
        yield SimulatedProvider() if vendor == SIMULATED else SqliteProvider({})
        return
    # One contender's sessions may still be ending when those of the next one begin.
    most = 2 * connections_needed + SPARE_CONNECTIONS
    server = (PrivatePostgres if vendor == POSTGRESQL else PrivateMariaDB)(max_connections=most)
    try:
        options = MYSQL_OPTIONS.get(mysql_driver().__name__, {}) if vendor == MYSQL else {}
        load_backend(STOCK_ENGINES[vendor])
        server.start()
    except (ImproperlyConfigured, ImportError) as error:
        extra = "psycopg" if vendor == POSTGRESQL else "pymysql"
        raise SetupError(f"{error}; pip install 'django-pooling[{extra}]'") from error
    except (PostgresUnavailableError, MariaDBUnavailableError, ServerError) as error:
        raise SetupError(str(error)) from error
    closing, provider_class = contextlib.closing, SERVER_PROVIDERS[vendor]
    entry = {**server.database_settings(), "OPTIONS": options}
    with closing(server), closing(provider_class(entry)) as provider:
        yield provider


def provider_of_alias(alias: str) -> contextlib.AbstractContextManager[DatabaseProvider]:
    """Return a provider on the server, or beside the file, of an alias in `DATABASES`.

    Raises:
        SetupError: there is no such alias, or its kind of database cannot be benchmarked.
    """
    if (vendor := vendor_of_alias(alias)) == SQLITE:
        return contextlib.nullcontext(SqliteProvider(connections.settings[alias]))
    return contextlib.closing(SERVER_PROVIDERS[vendor](connections.settings[alias]))


def vendor_of_alias(alias: str) -> str:
    """Return what kind of database an alias is.

    Raises:
        SetupError: there is no such alias, or its kind of database cannot be benchmarked.
    """
    if alias not in connections.settings:
        known = ", ".join(map(repr, connections.settings))
        raise SetupError(f"no database {alias!r} in DATABASES; choose from {known}")
    vendor = connections[alias].vendor
    if vendor not in STOCK_ENGINES:
        known = ", ".join(STOCK_ENGINES)
        raise SetupError(f"{alias!r} is a {vendor} database; choose one of {known}")
    return vendor


def distant_host(entry: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the server of a `DATABASES` entry if it is not this machine, else "".

    A service, or what an option file says, may be anywhere, so its name is returned as well.
    """
    if "sqlite" in entry.get("ENGINE", ""):
        return ""
    options = entry.get("OPTIONS", {})
    if "mysql" in entry.get("ENGINE", ""):
        if file := options.get("read_default_file"):
            return f"option file {file}"
        environment = {}
    if service := options.get("service"):
        return f"service {service}"
    given = [
        options.get("hostaddr"),
        entry.get("HOST") or options.get("host") or environment.get("PGHOST"),
        environment.get("PGHOSTADDR"),
    ]
    hosts = [host for each in given for host in str(each or "").split(",")]
    return ", ".join(host for host in hosts if not is_local(host.strip()))


def is_local(host: str) -> bool:
    """Whether a host is this machine: a socket in its file system, or its own address."""
    return host.lower() in ("", "localhost", "::1") or host.startswith(("/", "@", "127."))
