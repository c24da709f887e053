"""A private MariaDB: in a temporary folder, on a free local port, ended with its process."""

from __future__ import annotations

import atexit
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pooling.bench.private_postgres import free_port
from tests.support.databases import PATIENCE, Database

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Self

    from django.db.backends.base.base import BaseDatabaseWrapper

PROGRAMS = ("mariadbd", "mariadb-install-db")
USER = "pooling"

# Ends the server when its input ends, with the process that started it, however that ends.
WATCHDOG_SCRIPT = """
folder=$1
shift
"$@" </dev/null >>"$folder/log" 2>&1 &
server=$!
read -r how
kill -CONT "$server"
if [ "$how" = stop ]; then kill -TERM "$server"; else kill -KILL "$server"; fi
wait "$server"
if [ -z "$how" ]; then rm -rf -- "$folder"; fi
"""


def missing() -> str | None:
    """Return why the tests of this engine cannot run here, and what to install; None if they can.

    `TEST_MYSQL_DRIVER` chooses the driver: `pymysql`, unless it says `mysqlclient`.
    """
    if any(shutil.which(program) is None for program in PROGRAMS):
        return "no MariaDB: install the Debian package mariadb-server"
    wanted, module = ("mysqlclient", "MySQLdb") if uses_mysqlclient() else ("pymysql", "pymysql")
    if importlib.util.find_spec(module) is None:
        return f"no driver for MariaDB: pip install 'django-pooling[{wanted}]'"
    return None


def uses_mysqlclient() -> bool:
    return os.environ.get("TEST_MYSQL_DRIVER") == "mysqlclient"


def driver() -> ModuleType:
    """Return the driver module, known as `MySQLdb` from now on."""
    if not uses_mysqlclient() and "MySQLdb" not in sys.modules:
        import pymysql

        pymysql.install_as_MySQLdb()
    import MySQLdb

    return MySQLdb


def create_user(name: str) -> list[str]:
    """Return statements for a user with few rights, and seven sessions at most."""
    return [
        f"CREATE USER {name} IDENTIFIED BY '{name}' WITH MAX_USER_CONNECTIONS 7",
        f"GRANT SELECT ON test.* TO {name}",
        f"GRANT SELECT ON `test\\_%`.* TO {name}",
    ]


class PrivateMariaDB:
    """A MariaDB that belongs to this process. Use it as a context manager."""

    host = "127.0.0.1"

    def __init__(self, **options: object) -> None:
        self.password = secrets.token_hex(16)
        self.options = options
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="pooling-mariadb-"))
        atexit.register(self.close)
        self.port = free_port()
        try:
            self._install()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _install(self) -> None:
        done = subprocess.run(
            [
                *("mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
                *self._user(),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        account = f"'{USER}'@'%'"
        commands = self.folder / "init.sql"
        commands.touch(mode=0o600)
        commands.write_text(
            f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;\n"
            f"ALTER USER root@localhost IDENTIFIED BY '{self.password}';\n"
        )

    @staticmethod
    def _user() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    def start(self, **options: object) -> None:
        """Start the server, and wait until it takes connections."""
        given = {**self.options, **options}
        self._watchdog = subprocess.Popen(
            [
                *("/bin/sh", "-c", WATCHDOG_SCRIPT, "sh", self.folder),
                *("mariadbd", "--no-defaults", f"--datadir={self.folder}/data", *self._user()),
                *(f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid"),
                *(f"--port={self.port}", f"--bind-address={self.host}", "--skip-name-resolve"),
                *(f"--init-file={self.folder}/init.sql", "--skip-log-bin"),
                *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"),
                *("--character-set-server=utf8mb4",),
                *(f"--{name.replace('_', '-')}={value}" for name, value in given.items()),
            ],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
            except driver().Error:
                log = self.folder / "log"
                assert self._watchdog.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.02)
            else:
                return

    def stop(self, how: str = "stop") -> None:
        """Stop the server, and wait until it is gone; "kill" is the nearest thing to a crash."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            assert watchdog.stdin is not None
            watchdog.stdin.write(f"{how}\n".encode())
            watchdog.stdin.close()
            watchdog.wait(PATIENCE)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        if os.getpid() == self._owner:
            self.stop("kill")
            shutil.rmtree(self.folder, ignore_errors=True)
            atexit.unregister(self.close)

    def login(self) -> dict[str, Any]:
        """Return the entries of `DATABASES` that tell how to reach it."""
        login = {"USER": USER, "PASSWORD": self.password}
        return {**login, "HOST": self.host, "PORT": str(self.port)}

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own; return the last one's rows."""
        login: dict[str, Any] = {"user": USER, "password": self.password}
        if database:
            login["database"] = database
        connection = driver().connect(
            host=self.host, port=self.port, autocommit=True, connect_timeout=10, **login
        )
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
        self.raw_class = driver().connections.Connection

    def close(self) -> None:
        from pooling.registry import REGISTRY

        super().close()
        REGISTRY.close_database(self.entry["NAME"])

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.execute(*statements, database=self.entry["NAME"])

    def session(self, wrapper: BaseDatabaseWrapper) -> int:
        return self.value(wrapper, "SELECT CONNECTION_ID()")

    def value(self, wrapper: BaseDatabaseWrapper, sql: str) -> Any:
        """Return the first column of a statement's first row."""
        with wrapper.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
            return None if row is None else row[0]

    def sessions(self) -> list[int]:
        name = self.entry["NAME"]
        rows = self.server.execute(
            f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
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
