"""A run on MariaDB."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.soak.faults import Faults
from tests.soak.stress import MAX_SIZE, OPTIONS, TENANT_OPTIONS, Stress
from tests.soak.tenants import TENANTS
from tests.support.fault_proxy import FaultProxy
from tests.support.mariadb import PrivateMariaDB, without_tls
from tests.support.servers import mysql_driver

if TYPE_CHECKING:
    from contextlib import ExitStack

DATABASE = "soak"


class MysqlStress(Stress):
    """A private server behind a proxy, eight threads, all faults there are."""

    threads = 8

    @property
    def driver_error(self) -> type[Exception]:
        error: type[Exception] = mysql_driver().Error
        return error

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        mysql_driver()
        # What a crash must not lose has to be written before the commit is confirmed.
        server = PrivateMariaDB(innodb_flush_log_at_trx_commit=1)
        self.server = stack.enter_context(server)
        self.proxy = stack.enter_context(FaultProxy(self.server.host, self.server.port))
        self._blackout = threading.Lock()
        """Held while the server cannot be asked anything."""
        self._make_database(DATABASE, "CREATE TABLE ledger (n integer)")
        settings = self.server.database_settings("pooling.backends.mysql", DATABASE)
        options = {"pool": {**OPTIONS, "name": f"soak-mysql-{self.seed}"}, **without_tls()}
        return {**settings, "PORT": str(self.proxy.port), "OPTIONS": options}

    def prepare_tenants(self, settings: dict[str, Any]) -> dict[str, Any]:
        for tenant in TENANTS:
            table = f"CREATE TABLE tenant AS SELECT '{tenant}' AS name"
            self._make_database(f"tenant_{tenant}", table)
        options = {**settings["OPTIONS"], "pool": TENANT_OPTIONS}
        return {**settings, "ENGINE": "tests.soak.tenants.mysql", "OPTIONS": options}

    def _make_database(self, name: str, table: str) -> None:
        self.server.execute(f"CREATE DATABASE {name}")
        self.server.execute(table, database=name)

    def instruments(self) -> dict[str, Any]:
        return {
            "sessions": self._sessions,
            "mark": lambda cursor, token: cursor.execute("SET @token = %s", [token]),
            "read_mark": self._read_mark,
            "forks": True,
        }

    def _read_mark(self, cursor: Any) -> str:
        cursor.execute("SELECT @token")
        return str(cursor.fetchone()[0])

    def _sessions(self) -> int | None:
        if not self._blackout.acquire(blocking=False):
            return None  # the server is down or frozen, on purpose
        try:
            return len(self._processes())
        except self.driver_error:
            return None
        finally:
            self._blackout.release()

    def _processes(self, which: str = "TRUE") -> list[int]:
        """Return the ids of the pool's sessions; there are others on the tenants' databases."""
        rows = self.server.execute(
            "SELECT id FROM information_schema.processlist "
            f"WHERE user = '{self.server.user}' AND db = '{DATABASE}' AND {which}"
        )
        return [number for (number,) in rows]

    def _terminate(self, idle: bool) -> None:
        for number in self._processes("command = 'Sleep'" if idle else "rand() < 0.3"):
            with suppress(self.driver_error):  # it has ended meanwhile
                self.server.execute(f"KILL {number}")

    def make_faults(self) -> Faults:
        return Faults(
            self.monitor, self.workers, f"{self.seed}-faults", max_size=MAX_SIZE,
            server=self.server, blackout=self._blackout, proxy=self.proxy,
            terminate=self._terminate,
        )  # fmt: skip

    def ledger(self) -> int:
        [(count,)] = self.server.execute("SELECT count(*) FROM ledger", database=DATABASE)
        return int(count)
