"""A private PgBouncer that tests reload, restart and give commands on its console."""

from __future__ import annotations

import re
import signal
import subprocess
from functools import cached_property
from typing import TYPE_CHECKING, Any

import psutil

from pooling.bench.adapters.pgbouncer import PrivatePgBouncer
from pooling.bench.environment import find_program
from tests.support.databases import PostgresDatabase, eventually
from tests.support.servers import driver

if TYPE_CHECKING:
    from typing import Self

ADMIN = "admin"
"""Who may give commands on the console; nobody has a password."""

MISSING = "no pgbouncer: apt install pgbouncer"


def missing() -> str | None:
    """Return why there can be no PgBouncer here; None if there can."""
    return MISSING if find_program("pgbouncer") is None else None


def version() -> tuple[int, int]:
    """Return the first two numbers of PgBouncer's version."""
    program = find_program("pgbouncer")
    assert program is not None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


class PgBouncer(PrivatePgBouncer):
    """A PgBouncer in front of a database; a context manager.

    Args:
        database: what is behind it.
        size: connections to the server.
        settings: of `[pgbouncer]`.
    """

    def __init__(self, database: PostgresDatabase, size: int = 20, **settings: object) -> None:
        self.direct = database
        login = {"auth_type": "trust", "admin_users": ADMIN}
        super().__init__(database.entry, size, clients=100, settings={**login, **settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()
        self.close()

    @cached_property
    def database(self) -> PostgresDatabase:
        """The database through PgBouncer for Django, and past it for what a test looks up."""
        database = PostgresDatabase({**self.direct.entry, **self.address}, self.direct.url)
        database.url = self.direct.url
        return database

    def write_settings(self) -> None:
        """Write its settings, and the users it knows."""
        users = self._folder / "users.txt"
        names = (ADMIN, self._entry.get("USER") or "postgres")
        users.write_text("".join(f'"{name}" ""\n' for name in names))
        users.chmod(0o644)
        self.settings["auth_file"] = users
        super().write_settings()

    @property
    def pid(self) -> int:
        """The process id."""
        (child,) = psutil.Process(self._process.pid).children()
        return child.pid

    def restart(self) -> None:
        """End it at once, with all connections, and start it on the same port."""
        self.close()
        self.start()

    def reload(self, **settings: object) -> None:
        """Change settings, have it read them (SIGHUP), and wait until it has."""
        self.settings |= settings
        self.write_settings()
        psutil.Process(self.pid).send_signal(signal.SIGHUP)
        for name, value in settings.items():
            eventually(lambda name=name, value=value: self.setting(name) == str(value))  # type: ignore[misc]

    def clients(self) -> int:
        """Return how many connections of clients there are on the database."""
        name = self._entry["NAME"]
        return sum(row["database"] == name for row in self.console("SHOW CLIENTS"))

    def pool_state(self, *columns: str) -> int:
        """Return the sum of columns of SHOW POOLS for the database."""
        name = self._entry["NAME"]
        rows = [row for row in self.console("SHOW POOLS") if row["database"] == name]
        return sum(int(row[column]) for row in rows for column in columns)

    def setting(self, name: str) -> str:
        """Return a setting as PgBouncer sees it."""
        (value,) = [row["value"] for row in self.console("SHOW CONFIG") if row["key"] == name]
        return str(value)

    def console(self, command: str) -> list[dict[str, Any]]:
        """Run a command on the console; return the rows of its answer."""
        connection = driver().connect(
            host=self.address["HOST"], port=self.port, dbname="pgbouncer", user=ADMIN
        )
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(command)
            if cursor.description is None:
                return []
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            connection.close()
