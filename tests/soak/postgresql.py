"""A run on PostgreSQL."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.soak.faults import Faults
from tests.soak.stress import MAX_SIZE, OPTIONS, TENANT_OPTIONS, Stress
from tests.soak.tenants import TENANTS
from tests.support.fault_proxy import FaultProxy
from tests.support.postgres import PrivatePostgres
from tests.support.servers import driver, settings_from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack


class PostgresStress(Stress):
    """A private server behind a proxy, eight threads, all faults there are."""

    threads = 8

    @property
    def driver_error(self) -> type[Exception]:
        error: type[Exception] = driver().Error
        return error

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        # What a crash must not lose has to be written before the commit is confirmed.
        server = PrivatePostgres(configuration={"synchronous_commit": "on"})
        self.server = stack.enter_context(server)
        self.proxy = stack.enter_context(FaultProxy(self.server.host, self.server.port))
        self._blackout = threading.Lock()
        """Held while the server cannot be asked anything."""
        with self._direct() as execute:
            execute("CREATE TABLE ledger (n integer)")
        settings = settings_from_url(self.server.url, "pooling.backends.postgresql")
        options = {
            **settings["OPTIONS"],
            "pool": {**OPTIONS, "name": f"soak-{self.seed}"},
            "application_name": "soak",
        }
        return {**settings, "PORT": str(self.proxy.port), "OPTIONS": options}

    def prepare_tenants(self, settings: dict[str, Any]) -> dict[str, Any]:
        for tenant in TENANTS:
            with self._direct() as execute:
                execute(f"CREATE DATABASE tenant_{tenant}")
            with self._direct(f"tenant_{tenant}") as execute:
                execute(f"CREATE TABLE tenant AS SELECT text '{tenant}' AS name")
        options = {
            **settings["OPTIONS"],
            "pool": TENANT_OPTIONS,
            "application_name": "soak-tenants",
        }
        return {**settings, "ENGINE": "tests.soak.tenants.postgresql", "OPTIONS": options}

    @contextmanager
    def _direct(self, database: str | None = None) -> Iterator[Callable[[str], list[Any]]]:
        """Use the server past the proxy and the pool."""
        arguments = {} if database is None else {"dbname": database}
        connection = driver().connect(
            f"{self.server.url}?application_name=observer", connect_timeout=2, **arguments
        )
        try:
            connection.autocommit = True

            def execute(statement: str) -> list[Any]:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    return cursor.fetchall() if cursor.description else []

            yield execute
        finally:
            connection.close()

    def instruments(self) -> dict[str, Any]:
        return {
            "sessions": self._sessions,
            "mark": lambda cursor, token: cursor.execute(
                "SELECT set_config('soak.token', %s, false)", [token]
            ),
            "read_mark": self._read_mark,
            "forks": True,
        }

    def _read_mark(self, cursor: Any) -> str:
        cursor.execute("SELECT current_setting('soak.token', true)")
        return str(cursor.fetchone()[0])

    def _sessions(self) -> int | None:
        if not self._blackout.acquire(blocking=False):
            return None  # the server is down or frozen, on purpose
        try:
            with self._direct() as execute:
                [(count,)] = execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'soak'"
                )
                return int(count)
        except driver().Error:
            return None
        finally:
            self._blackout.release()

    def _terminate(self, idle: bool) -> None:
        which = "state = 'idle'" if idle else "random() < 0.3"
        with self._direct() as execute:
            execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE application_name = 'soak' AND {which}"
            )

    def make_faults(self) -> Faults:
        return Faults(
            self.monitor, self.workers, f"{self.seed}-faults", max_size=MAX_SIZE,
            server=self.server, blackout=self._blackout, proxy=self.proxy,
            terminate=self._terminate,
        )  # fmt: skip

    def ledger(self) -> int:
        with self._direct() as execute:
            [(count,)] = execute("SELECT count(*) FROM ledger")
        return int(count)
