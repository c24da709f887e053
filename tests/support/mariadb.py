"""A private MariaDB that tests stop and start again, and the driver they use."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pooling.bench import private_mariadb
from pooling.bench.environment import missing_programs
from tests.support.databases import OBSERVER, PATIENCE, Database
from tests.support.freezing import resume, suspend
from tests.support.servers import SESSION_ID, mysql_driver, uses_mysqlclient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper


MYSQLD = os.environ.get("TEST_MYSQLD")
"""The path of a MySQL server, to be tested in MariaDB's place."""
ISOLATION = "SELECT @@transaction_isolation" if MYSQLD else "SELECT @@tx_isolation"
READ_ONLY = "SELECT @@transaction_read_only" if MYSQLD else "SELECT @@tx_read_only"
NO_ROLE = "NONE" if MYSQLD else None


def missing() -> str | None:
    """Return why the tests of this engine cannot run here, and what to install; None if they can.

    `TEST_MYSQL_DRIVER` chooses the driver: `pymysql`, unless it says `mysqlclient`.
    """
    if not MYSQLD and (reason := missing_programs(private_mariadb.PROGRAMS)):
        return reason
    wanted, module = ("mysqlclient", "MySQLdb") if uses_mysqlclient() else ("pymysql", "pymysql")
    if importlib.util.find_spec(module) is None:
        return f"no driver for MariaDB: pip install 'django-pooling[{wanted}]'"
    return None


def without_tls() -> dict[str, Any]:
    """Return options with which a connection costs least."""
    return {} if uses_mysqlclient() else {"ssl_disabled": True}


def create_user(name: str) -> list[str]:
    """Return statements for a user with few rights, and seven sessions at most."""
    return [
        f"CREATE USER {name} IDENTIFIED BY '{name}' WITH MAX_USER_CONNECTIONS 7",
        f"GRANT SELECT ON test.* TO {name}",
        f"GRANT SELECT ON `test\\_%`.* TO {name}",
    ]


class PrivateMariaDB(private_mariadb.PrivateMariaDB):
    """A private MariaDB under the control of a test; or a MySQL, if `TEST_MYSQLD` names one."""

    def __init__(self, **options: object) -> None:
        # A port and a folder that MySQL would share with other servers of this machine.
        own = {"mysqlx": "OFF", "secure_file_priv": ""} if MYSQLD else {}
        super().__init__(**own, **options)

    def _program(self) -> str:
        return MYSQLD or super()._program()

    def _installer(self, folder: Path) -> list[str]:
        if not MYSQLD:
            return super()._installer(folder)
        account = private_mariadb._account()
        return [
            MYSQLD,
            "--no-defaults",
            "--initialize-insecure",
            f"--datadir={folder}/data",
            *account,
        ]

    @property
    def pid(self) -> int:
        return int(Path(f"{self.folder}/pid").read_text())

    def start(self, **options: object) -> None:
        """Start the server; after a `stop` on the same port with the same data."""
        if self.folder is not None:
            self.launch(**options)
            return
        super().start()
        self._execute(
            self.user,
            [
                f"CREATE USER {OBSERVER} IDENTIFIED BY '{self.password}'",
                f"GRANT ALL ON *.* TO {OBSERVER} WITH GRANT OPTION",
            ],
        )

    def freeze(self) -> None:
        """Suspend the server: it accepts connections and answers nothing."""
        suspend(self.pid)

    def thaw(self) -> None:
        """Let a frozen server go on where it was suspended."""
        resume(self.pid)

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own; return the last one's rows."""
        return self._execute(OBSERVER, statements, database)

    def connect(self, user: str = OBSERVER, database: str | None = None) -> Any:
        """Return a connection of the driver's, in autocommit mode."""
        login: dict[str, Any] = {"user": user, "password": self.password}
        if database:
            login["database"] = database
        return mysql_driver().connect(
            host=self.host, port=self.port, autocommit=True, connect_timeout=10, **login
        )

    def _execute(
        self, user: str, statements: Iterable[str], database: str | None = None
    ) -> list[tuple[Any, ...]]:
        connection = self.connect(user, database)
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            rows = list(cursor.fetchall()) if cursor.description else []
            cursor.close()
            return rows
        finally:
            connection.close()


class MariaDatabase(Database):
    """A database on a private server."""

    vendor = "mysql"

    def __init__(self, entry: dict[str, Any], server: PrivateMariaDB) -> None:
        super().__init__(entry)
        self.server = server
        self.raw_class = mysql_driver().connections.Connection
        self._others: list[str] = []

    def create_other(self) -> str:
        """Create another database, for the time of the test, and return its name."""
        name = f"{self.entry['NAME']}_{len(self._others)}"
        self.server.execute(f"CREATE DATABASE {name}")
        self._others.append(name)
        return name

    def close(self) -> None:
        from pooling.registry import REGISTRY

        super().close()
        for name in [self.entry["NAME"], *self._others]:
            REGISTRY.close_database(name)
        while self._others:
            self.server.execute(f"DROP DATABASE {self._others.pop()}")

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.execute(*statements, database=self.entry["NAME"])

    def session(self, wrapper: BaseDatabaseWrapper) -> int:
        return self.value(wrapper, SESSION_ID[self.vendor])

    def value(self, wrapper: BaseDatabaseWrapper, sql: str) -> Any:
        """Return the first column of a statement's first row."""
        with wrapper.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
            return None if row is None else row[0]

    def sessions(self) -> list[int]:
        name = self.entry["NAME"]
        rows = self.server.execute(
            "SELECT id FROM information_schema.processlist "
            f"WHERE db = '{name}' AND user <> '{OBSERVER}'"
        )
        return [number for (number,) in rows]

    def terminate(self, number: int) -> None:
        """End a session at the server, and wait until it is gone."""
        self.server.execute(f"KILL {number}")
        deadline = time.monotonic() + PATIENCE
        while number in self.sessions():
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def break_connection(self, wrapper: BaseDatabaseWrapper) -> None:
        self.terminate(wrapper.connection.thread_id())
