"""A run on PostgreSQL, with a budget that other processes share, and with a replica."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.test import override_settings

from tests.soak import replicas
from tests.soak.faults import Faults
from tests.soak.load import ALIAS
from tests.soak.monitor import WITHOUT
from tests.soak.rivals import Rivals
from tests.soak.slots import SlotActs, SlotAudit
from tests.soak.stress import MAX_SIZE, OPTIONS, TENANT_OPTIONS, Stress
from tests.soak.tenants import TENANTS
from tests.support.fault_proxy import FaultProxy
from tests.support.faulty_servers import REPLICATION, Standby
from tests.support.postgres import PrivatePostgres
from tests.support.servers import driver, settings_from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from tests.soak.load import Load

BUDGET = 9
"""Less than the pool and its rivals want, and more than one connection for each."""
RIVALS, RIVAL_SIZE = 2, 4
RIVAL_NAME = "soak-rival"
CONFIGURATION = {
    **REPLICATION,
    # What a crash must not lose has to be written before the commit is confirmed.
    "synchronous_commit": "on",
    "wal_keep_size": "1GB",  # a standby that was away goes on where it was
}
RECOVERY = 15.0
"""Seconds in the calm within which all must be as it was: a probe of a replica that an interrupt
has prevented is made again after ten."""


class PostgresStress(Stress):
    """A private server behind a proxy, eight threads, all faults there are.

    Two processes share the budget of the pool, and a standby is read through `ReplicaRouter`.
    """

    threads = 8
    rivals: Rivals | None = None
    standby: Standby | None = None

    @property
    def driver_error(self) -> type[Exception]:
        error: type[Exception] = driver().Error
        return error

    def prepare(self, stack: ExitStack) -> dict[str, Any]:
        self.server = stack.enter_context(PrivatePostgres(configuration=CONFIGURATION))
        self.proxy = stack.enter_context(FaultProxy(self.server.host, self.server.port))
        self._blackout = threading.Lock()
        """Held while the server cannot be asked anything."""
        with self._direct() as execute:
            for statement in ("CREATE TABLE ledger (n integer)", *replicas.TABLES):
                execute(statement)
        if "replicas" not in WITHOUT:
            self._prepare_replica(stack)
        settings = settings_from_url(self.server.url, "pooling.backends.postgresql")
        options = {
            **settings["OPTIONS"],
            "pool": {**OPTIONS, "name": f"soak-{self.seed}"},
            "application_name": "soak",
        }
        if "budget" not in WITHOUT:
            options["pool"]["budget"] = BUDGET
        return {**settings, "PORT": str(self.proxy.port), "OPTIONS": options}

    def _prepare_replica(self, stack: ExitStack) -> None:
        self.server.stop()
        self.standby = stack.enter_context(Standby(self.server))
        self.server.start()
        self.replica_faults = replicas.ReplicaFaults(self.standby, f"{self.seed}-replica")
        self._notes = replicas.CommittedNotes()
        stack.enter_context(override_settings(**replicas.SETTINGS))

    def prepare_others(self, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
        if self.standby is None:
            return {}
        options = {
            **settings["OPTIONS"],
            "pool": {**replicas.OPTIONS, "name": f"soak-replica-{self.seed}"},
            "application_name": replicas.APPLICATION,
        }
        entry = {**settings, "PORT": str(self.standby.port), "OPTIONS": options}
        return {replicas.REPLICA: entry}

    def start_others(self) -> None:
        if self.standby is not None:
            pool: Any = connections[replicas.REPLICA]
            self.monitor.other_pools.append(pool.resolve_pool())
        if "budget" in WITHOUT:
            return
        settings = connections.settings[ALIAS]
        pool = {**OPTIONS, "name": RIVAL_NAME, "max_size": RIVAL_SIZE, "budget": BUDGET}
        options = {**settings["OPTIONS"], "pool": pool, "application_name": RIVAL_NAME}
        names = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")
        entry = {name: settings[name] for name in names} | {"OPTIONS": options}
        self.rivals = Rivals(self.monitor, RIVALS, entry)
        self.slots = SlotAudit(
            self.monitor, self.server.url, budget=BUDGET, names=("soak", RIVAL_NAME),
            # This process, a child of it, and the others.
            processes=lambda: 2 + rivals.number(),
        )  # fmt: skip
        rivals = self.rivals
        self.slots.start()

    def more_acts(self, load: Load) -> dict[Callable[[], None], float]:
        acts: dict[Callable[[], None], float] = {}
        if self.rivals is not None:
            acts |= SlotActs(load, BUDGET).acts
        if self.standby is not None:
            acts |= replicas.ReplicaActs(load, self._notes).acts
        return acts

    def begin_calm(self) -> None:
        super().begin_calm()
        if self.rivals is not None:
            self.rivals.begin_calm()

    def wait_for_recovery(self) -> None:
        expected = []
        if self.rivals is not None:
            expected.append("leases of rivals in calm")
        if self.standby is not None:
            expected.append("reads from the replica in calm")
        deadline = time.monotonic() + RECOVERY
        for name in expected:
            while not self.monitor.counts[name] and time.monotonic() < deadline:
                self._observe(0.2)
            if not self.monitor.counts[name]:
                self.monitor.report(f"no {name}")

    def end_others(self) -> None:
        if self.rivals is not None:
            self.rivals.end()
            self.slots.end()
        if self.standby is not None:
            replicas.report_sessions_left(self.monitor, self.standby)

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
        others: dict[Callable[[], None], float] = {}
        if self.rivals is not None:
            others |= {self.rivals.kill_rival: 0.7}
        if self.standby is not None:
            others |= self.replica_faults.kinds
        faults = Faults(
            self.monitor, self.workers, f"{self.seed}-faults", max_size=MAX_SIZE,
            server=self.server, blackout=self._blackout, proxy=self.proxy,
            terminate=self._terminate, others=others,
        )  # fmt: skip
        if self.standby is not None:
            self.replica_faults.wait = faults.over.wait
        return faults

    def ledger(self) -> int:
        with self._direct() as execute:
            [(count,)] = execute("SELECT count(*) FROM ledger")
        return int(count)
